//! The policy directory: reading it, knowing which Git commit it is, and whom to trust with it.
//!
//! The text that is parsed is the text that is compared with the commit: files are read once, and
//! their bytes are hashed as Git does. A file that changes in between cannot be taken for another.
//! A directory outside a Git repository is a policy too; it has no revision.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use gix::objs::Kind;
use ssh_key::{PublicKey, SshSig};
use tidegate_policy::{
    Diagnostic, Policy, PolicyFile, Report, Revision, Tree, read_files, resolve,
};

/// What `git commit -S` with an SSH key signs as (`gpg.format = ssh`).
const SIGNATURE_NAMESPACE: &str = "git";

/// Where the policy is, and which states of it are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRepo {
    /// The directory with the `*.toml` files.
    pub directory: PathBuf,
    /// Whose commits are accepted; `None` accepts everything, also what is not in Git.
    pub signers: Option<Vec<PublicKey>>,
    /// Which commits may follow the one in force.
    pub history: History,
}

/// Which commits may follow the one in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// Every one.
    #[default]
    Any,
    /// Only descendants: nobody can bring back an old policy by checking it out.
    Forward,
}

/// Why a policy is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text has mistakes.
    #[error("{0}")]
    Text(Report),
    /// The repository cannot be read.
    #[error("{}: the Git repository cannot be read: {source}", .directory.display())]
    Git {
        /// The policy directory.
        directory: PathBuf,
        /// What Git's files are like.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The state of the repository is not accepted.
    #[error("{}: {why}; {help}", .directory.display())]
    NotTrusted {
        /// The policy directory.
        directory: PathBuf,
        /// What is missing.
        why: String,
        /// What to do.
        help: &'static str,
    },
}

impl LoadError {
    /// The mistakes as the user is shown them.
    #[must_use]
    pub fn into_report(self) -> Report {
        match self {
            Self::Text(report) => report,
            Self::Git { directory, source } => Report::of(Diagnostic::about(
                directory.display().to_string(),
                format!("the Git repository cannot be read: {source}"),
                "see what `git fsck` says, or clone it anew",
            )),
            Self::NotTrusted { directory, why, help } => {
                Report::of(Diagnostic::about(directory.display().to_string(), why, help))
            }
        }
    }
}

impl PolicyRepo {
    /// A policy directory of which every state is accepted.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, signers: None, history: History::Any }
    }

    /// Reads and checks the policy. `in_force` is the revision that it would follow.
    ///
    /// # Errors
    /// [`LoadError`] if the text has mistakes or the state of the repository is not accepted.
    pub fn load(&self, in_force: Option<&Revision>) -> Result<Policy, LoadError> {
        let files = read_files(&self.directory).map_err(LoadError::Text)?;
        let checkout = self.checkout()?;
        let revision = checkout.as_ref().map(|it| self.revision(it, &files)).transpose()?;
        self.check_signer(checkout.as_ref(), revision.as_ref())?;
        self.check_history(checkout.as_ref(), revision.as_ref(), in_force)?;
        let directory = self.directory.display().to_string();
        let mut policy = resolve(&directory, &files).map_err(LoadError::Text)?;
        policy.revision = revision;
        Ok(policy)
    }

    /// The files as they are now and their revision, to see whether anything has changed. `None`
    /// if they cannot be read just now.
    #[must_use]
    pub fn look(&self) -> Option<Look> {
        let files = read_files(&self.directory).ok()?;
        let checkout = self.checkout().ok()?;
        let revision = checkout.map(|it| self.revision(&it, &files)).transpose().ok()?;
        let files = files.into_iter().map(|file| (file.name, file.bytes)).collect();
        Some(Look { files, revision })
    }

    /// The repository that the directory is part of; `None` if it is in none, or in one without a
    /// commit.
    fn checkout(&self) -> Result<Option<Checkout>, LoadError> {
        let Ok(repository) = gix::discover(&self.directory) else { return Ok(None) };
        let head = repository.head().map_err(|error| self.git(error))?;
        if repository.workdir().is_none() || head.is_unborn() {
            return Ok(None);
        }
        let commit = repository.head_id().map_err(|error| self.git(error))?.detach();
        Ok(Some(Checkout { repository, commit }))
    }

    /// Reads and checks the policy as it is in another commit of the repository, named as Git
    /// names commits.
    ///
    /// # Errors
    /// [`LoadError`] if there is no such commit, or its text has mistakes.
    pub fn load_commit(&self, name: &str) -> Result<Policy, LoadError> {
        let missing = |why: String| {
            self.not_trusted(why, "name a directory, or a commit of the repository it is in")
        };
        let Some(mut checkout) = self.checkout()? else {
            let why = format!("`{name}` is no directory, and this is in no Git repository");
            return Err(missing(why));
        };
        let commit = checkout.repository.rev_parse_single(name).ok();
        let commit = commit.and_then(|id| id.object().ok()?.peel_to_commit().ok());
        let Some(commit) = commit.map(|commit| commit.id) else {
            return Err(missing(format!("`{name}` is neither a directory nor a commit")));
        };
        checkout.commit = commit;
        let mut files = Vec::new();
        for (path, id) in self.committed(&checkout)? {
            let blob = checkout.repository.find_object(id).map_err(|error| self.git(error))?;
            let name = format!("{name}:{}", path.display());
            files.push(PolicyFile { name, bytes: blob.data.clone() });
        }
        let mut policy = resolve(name, &files).map_err(LoadError::Text)?;
        policy.revision = Some(Revision { commit: commit.to_string(), state: Tree::Clean });
        Ok(policy)
    }

    fn revision(&self, checkout: &Checkout, files: &[PolicyFile]) -> Result<Revision, LoadError> {
        let committed = self.committed(checkout)?;
        let read: BTreeSet<_> = files
            .iter()
            .map(|file| {
                let name = Path::new(&file.name).strip_prefix(&self.directory).ok();
                let kind = checkout.repository.object_hash();
                let hash = gix::objs::compute_hash(kind, Kind::Blob, &file.bytes).ok();
                name.map(Path::to_owned).zip(hash)
            })
            .collect();
        let clean = read == committed.into_iter().map(Some).collect();
        let state = if clean { Tree::Clean } else { Tree::Dirty };
        Ok(Revision { commit: checkout.commit.to_string(), state })
    }

    /// The policy files of the commit: path below the directory, and name of the content.
    fn committed(
        &self,
        checkout: &Checkout,
    ) -> Result<BTreeSet<(PathBuf, gix::ObjectId)>, LoadError> {
        let directory = self.directory.canonicalize().map_err(|error| self.git(error))?;
        let root = checkout.repository.workdir().map(Path::canonicalize);
        let root = root.transpose().map_err(|error| self.git(error))?.unwrap_or_default();
        let inside = directory.strip_prefix(&root).map_err(|error| self.git(error))?;
        let commit = checkout.repository.find_commit(checkout.commit);
        let commit = commit.map_err(|error| self.git(error))?;
        let mut tree = commit.tree().map_err(|error| self.git(error))?;
        if !inside.as_os_str().is_empty() {
            let entry = tree.lookup_entry_by_path(inside).map_err(|error| self.git(error))?;
            let Some(entry) = entry.filter(|entry| entry.mode().is_tree()) else {
                return Ok(BTreeSet::new());
            };
            let object = entry.object().map_err(|error| self.git(error))?;
            tree = object.try_into_tree().map_err(|error| self.git(error))?;
        }
        let mut files = BTreeSet::new();
        for entry in tree.iter() {
            let entry = entry.map_err(|error| self.git(error))?;
            let name = gix::path::from_bstr(entry.filename()).map_err(|error| self.git(error))?;
            let hidden = entry.filename().starts_with(b".");
            let is_text = name.extension() == Some(OsStr::new("toml"));
            if is_text && !hidden && !entry.mode().is_tree() {
                files.insert((name.into_owned(), entry.object_id()));
            }
        }
        Ok(files)
    }

    /// With signers configured, only a clean checkout of a commit that one of them signed passes.
    fn check_signer(
        &self,
        checkout: Option<&Checkout>,
        revision: Option<&Revision>,
    ) -> Result<(), LoadError> {
        let Some(signers) = &self.signers else { return Ok(()) };
        let (Some(checkout), Some(revision)) = (checkout, revision) else {
            return Err(self.not_trusted(
                "the policy must be signed, and the directory is in no Git repository",
                "check the policy repository out there, or remove `signers`",
            ));
        };
        if revision.state == Tree::Dirty {
            return Err(self.not_trusted(
                format!("the policy must be signed, and the files differ from commit {revision}"),
                "commit the changes or undo them: `git status` shows them",
            ));
        }
        let commit = checkout.repository.find_commit(checkout.commit);
        let commit = commit.map_err(|error| self.git(error))?;
        let signature = gix::objs::CommitRefIter::signature(&commit.data, checkout.commit.kind());
        let signature = signature.map_err(|error| self.git(error))?;
        let Some((signature, signed)) = signature else {
            let why = format!("commit {revision} has no signature");
            return Err(self.not_trusted(why, "sign it: `git commit --amend -S`"));
        };
        let Ok(signature) = SshSig::from_pem(signature.as_ref()) else {
            let why = format!("commit {revision} is not signed with an SSH key");
            return Err(self.not_trusted(why, "set `gpg.format = ssh` in Git and sign it again"));
        };
        let signed = signed.to_bstring();
        let good = |key: &PublicKey| key.verify(SIGNATURE_NAMESPACE, &signed, &signature).is_ok();
        if signers.iter().any(good) {
            return Ok(());
        }
        let why = format!("commit {revision} is signed by none of the keys in `signers`");
        Err(self.not_trusted(why, "let one of their owners sign it, or add the signer's key"))
    }

    fn check_history(
        &self,
        checkout: Option<&Checkout>,
        revision: Option<&Revision>,
        in_force: Option<&Revision>,
    ) -> Result<(), LoadError> {
        let (History::Forward, Some(in_force)) = (self.history, in_force) else { return Ok(()) };
        let (Some(checkout), Some(revision)) = (checkout, revision) else {
            let why = format!("commit {in_force} is in force, and this is no Git repository");
            return Err(self.not_trusted(why, "check the policy repository out there again"));
        };
        let before = gix::ObjectId::from_hex(in_force.commit.as_bytes());
        let before = before.map_err(|error| self.git(error))?;
        // A commit that is not even there has no descendants.
        let base = checkout.repository.merge_base(before, checkout.commit).ok().flatten();
        if base.is_some_and(|base| base.detach() == before) {
            return Ok(());
        }
        Err(self.not_trusted(
            format!("commit {revision} does not follow {in_force}, which is in force"),
            "merge it (`git revert` goes back in a new commit), or set `history = \"any\"`",
        ))
    }

    fn git(&self, source: impl std::error::Error + Send + Sync + 'static) -> LoadError {
        LoadError::Git { directory: self.directory.clone(), source: Box::new(source) }
    }

    fn not_trusted(&self, why: impl Into<String>, help: &'static str) -> LoadError {
        LoadError::NotTrusted { directory: self.directory.clone(), why: why.into(), help }
    }
}

/// A Git repository with a work tree, and the commit that is checked out.
struct Checkout {
    repository: gix::Repository,
    commit: gix::ObjectId,
}

/// A state of the policy directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Names and contents.
    files: Vec<(String, Vec<u8>)>,
    /// The commit, if the directory is in a Git repository.
    pub revision: Option<Revision>,
}

#[cfg(test)]
mod tests;
