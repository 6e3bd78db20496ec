//! Against repositories made by Git itself.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::*;

const TEXT: &str = r#"
[speaker]
as = 65010
router-id = "10.99.0.1"

[owned]
prefixes = ["203.0.113.0/24"]
"#;

/// A Git repository whose directory `policy` is the policy.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.git(&["init", "--quiet", "--initial-branch=main"]);
        fs::create_dir(world.folder.path().join("policy")).unwrap();
        fs::write(world.folder.path().join("notes.toml"), "not = \"policy\"").unwrap();
        world.write("network.toml", TEXT);
        world
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(self.folder.path()).env("HOME", self.folder.path());
        git.env("GIT_CONFIG_NOSYSTEM", "1");
        git.args(["-c", "user.name=Operator", "-c", "user.email=noc@example.net"]);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join("policy").join(name), text).unwrap();
    }

    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "Change"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A commit signed with the key `name`, which is made if it is not there.
    fn signed_commit(&self, name: &str) -> PublicKey {
        let key = self.folder.path().join(name);
        if !key.exists() {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(&key)
                .status()
                .unwrap();
            assert!(made.success());
        }
        self.git(&["add", "policy"]);
        let key = key.to_str().unwrap();
        let key_option = format!("user.signingkey={key}");
        let options = ["-c", "gpg.format=ssh", "-c", &key_option];
        let commit = ["commit", "--quiet", "--allow-empty", "-S", "--message", "Change"];
        self.git(&[&options[..], &commit[..]].concat());
        PublicKey::read_openssh_file(Path::new(&format!("{key}.pub"))).unwrap()
    }

    fn repo(&self) -> PolicyRepo {
        PolicyRepo::new(self.folder.path().join("policy"))
    }

    fn revision(&self) -> Option<Revision> {
        self.repo().load(None).unwrap().revision
    }
}

fn refusal(repo: &PolicyRepo, in_force: Option<&Revision>) -> String {
    repo.load(in_force).unwrap_err().to_string()
}

#[test]
fn a_directory_outside_git_has_no_revision() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("network.toml"), TEXT).unwrap();
    let repo = PolicyRepo::new(folder.path().to_owned());
    assert_eq!(repo.load(None).unwrap().revision, None);
}

#[test]
fn a_repository_without_a_commit_has_no_revision() {
    assert_eq!(World::new().revision(), None);
}

#[test]
fn a_commit_is_clean_until_a_policy_file_differs_from_it() {
    let world = World::new();
    let commit = world.commit();
    let clean = Revision { commit: commit.clone(), state: Tree::Clean };
    let dirty = Revision { commit, state: Tree::Dirty };
    assert_eq!(world.revision(), Some(clean.clone()));
    // What is no policy does not count.
    world.write("README.md", "About");
    fs::write(world.folder.path().join("notes.toml"), "other = 1").unwrap();
    assert_eq!(world.revision(), Some(clean.clone()));
    world.write("network.toml", &format!("{TEXT}# changed\n"));
    assert_eq!(world.revision(), Some(dirty.clone()));
    world.write("network.toml", TEXT);
    world.write("more.toml", "[detection]\ntolerance = \"400ms\"\n");
    assert_eq!(world.revision(), Some(dirty.clone()));
    world.git(&["add", "policy"]);
    assert_eq!(world.revision(), Some(dirty));
    assert_eq!(clean.to_string(), clean.commit[..12]);
}

#[test]
fn a_file_that_was_removed_makes_it_dirty() {
    let world = World::new();
    world.write("more.toml", "[detection]\ntolerance = \"400ms\"\n");
    world.commit();
    fs::remove_file(world.folder.path().join("policy/more.toml")).unwrap();
    let revision = world.revision().unwrap();
    assert_eq!(revision.state, Tree::Dirty);
    assert!(revision.to_string().ends_with("-dirty"));
}

#[test]
fn the_policy_may_be_the_root_of_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let world = World { folder };
    world.git(&["init", "--quiet", "--initial-branch=main"]);
    fs::write(world.folder.path().join("network.toml"), TEXT).unwrap();
    let commit = world.commit();
    let repo = PolicyRepo::new(world.folder.path().to_owned());
    assert_eq!(repo.load(None).unwrap().revision, Some(Revision { commit, state: Tree::Clean }));
}

#[test]
fn only_signers_are_trusted() {
    let world = World::new();
    let operator = world.signed_commit("operator");
    let mut repo = world.repo();
    repo.signers = Some(vec![operator]);
    assert!(repo.load(None).is_ok());
    world.write("network.toml", &format!("{TEXT}# changed\n"));
    assert!(refusal(&repo, None).contains("differ from commit"));
    world.signed_commit("stranger");
    assert!(refusal(&repo, None).contains("signed by none"));
    world.git(&["commit", "--quiet", "--allow-empty", "--message", "Unsigned"]);
    assert!(refusal(&repo, None).contains("has no signature"));
    repo.directory = tempfile::tempdir().unwrap().keep();
    fs::write(repo.directory.join("network.toml"), TEXT).unwrap();
    assert!(refusal(&repo, None).contains("in no Git repository"));
    fs::remove_dir_all(&repo.directory).unwrap();
}

#[test]
fn history_goes_forward_only_if_told_so() {
    let world = World::new();
    let first = world.commit();
    let old = world.revision();
    world.write("network.toml", &format!("{TEXT}# changed\n"));
    world.commit();
    let new = world.revision();
    let mut repo = world.repo();
    repo.history = History::Forward;
    assert!(repo.load(old.as_ref()).is_ok());
    assert!(repo.load(new.as_ref()).is_ok(), "the same again");
    world.git(&["checkout", "--quiet", &first]);
    assert!(refusal(&repo, new.as_ref()).contains("does not follow"));
    repo.history = History::Any;
    assert!(repo.load(new.as_ref()).is_ok());
}

#[test]
fn a_look_sees_every_change() {
    let world = World::new();
    world.commit();
    let before = world.repo().look().unwrap();
    assert_eq!(world.repo().look().unwrap(), before);
    world.git(&["commit", "--quiet", "--allow-empty", "--message", "Same text"]);
    let after = world.repo().look().unwrap();
    assert_ne!(after, before);
    world.write("network.toml", "");
    assert_ne!(world.repo().look().unwrap(), after);
}

#[test]
fn a_damaged_repository_is_named() {
    let world = World::new();
    let commit = world.commit();
    let (front, back) = commit.split_at(2);
    let object = world.folder.path().join(".git/objects").join(front).join(back);
    fs::remove_file(object).unwrap();
    let said = refusal(&world.repo(), None);
    assert!(said.contains("policy: the Git repository cannot be read"), "{said}");
}

#[test]
fn an_older_commit_can_be_read() {
    let world = World::new();
    let first = world.commit();
    world.write("network.toml", &TEXT.replace("0/24", "0/25"));
    world.commit();
    let repo = world.repo();
    let old = repo.load_commit("HEAD~1").unwrap();
    assert_eq!(old.space.owned[0].to_string(), "203.0.113.0/24");
    assert_eq!(old.revision, Some(Revision { commit: first, state: Tree::Clean }));
    let said = repo.load_commit("nonsense").unwrap_err().to_string();
    assert!(said.contains("`nonsense` is neither a directory nor a commit"), "{said}");
}
