//! Rules of the workspace that the compiler does not know: which crate may depend on which, what
//! must not reach a pure crate, and how long a file or function may be.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may stop at a surprise too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{Metadata, MetadataCommand};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Folder, package, and the packages of the workspace that it may depend on.
const GRAPH: &[(&str, &str, &[&str])] = &[
    ("model", "tidegate-model", &[]),
    ("detector", "tidegate-detector", &["tidegate-model"]),
    ("policy", "tidegate-policy", &["tidegate-model"]),
    ("reconciler", "tidegate-reconciler", &["tidegate-model"]),
    ("bgpd", "tidegate-bgpd", &["tidegate-model"]),
    ("adapters", "tidegate-adapters", &["tidegate-model", "tidegate-bgpd"]),
    (
        "daemon",
        "tidegate",
        &[
            "tidegate-model",
            "tidegate-detector",
            "tidegate-policy",
            "tidegate-reconciler",
            "tidegate-bgpd",
            "tidegate-adapters",
        ],
    ),
    (
        "interop-tests",
        "tidegate-interop-tests",
        &[
            "tidegate-model",
            "tidegate-detector",
            "tidegate-policy",
            "tidegate-reconciler",
            "tidegate-bgpd",
            "tidegate-adapters",
            "tidegate",
        ],
    ),
    ("xtask", "xtask", &[]),
];

/// Packages that hold no clock, no sockets and no runtime with their default features off.
const PURE: &[&str] = &["model", "detector", "policy", "reconciler", "bgpd"];

/// What brings a clock, sockets, packets or a runtime.
const IMPURE_DEPENDENCIES: &[&str] = &[
    "tokio",
    "mio",
    "async-io",
    "async-std",
    "smol",
    "pcap",
    "pcap-parser",
    "socket2",
    "signal-hook",
    "jiff",
    "chrono",
    "time",
    "quanta",
    "coarsetime",
    "web-time",
];

/// Types of the standard library that read a clock.
const CLOCKS: &[&str] = &["Instant", "SystemTime"];

const MAX_FUNCTION_LINES: usize = 70;
const MAX_FILE_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps();
    command.exec().unwrap()
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let metadata = metadata();
    let names: BTreeSet<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let known: BTreeSet<&str> = GRAPH.iter().map(|(_, package, _)| *package).collect();
    assert_eq!(names, known, "a package that the design does not know, or the other way round");
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let (folder, _, allowed) =
            GRAPH.iter().find(|(_, name, _)| *name == package.name.as_str()).unwrap();
        let directory = package.manifest_path.parent().unwrap();
        assert_eq!(directory.file_name(), Some(*folder), "{}", package.name);
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if names.contains(name) && !allowed.contains(&name) {
                wrong.push(format!("{} -> {name} ({})", package.name, dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that are not in the design: {wrong:#?}");
}

#[test]
fn nothing_impure_reaches_a_pure_crate() {
    let mut wrong = Vec::new();
    for (_, package, _) in GRAPH.iter().filter(|(folder, ..)| PURE.contains(folder)) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--no-default-features", "--edges", "normal"]);
        cargo.args(["--prefix", "none", "--format", "{p}", "--package", package]);
        let output = cargo.current_dir(root()).output().unwrap();
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "cargo tree --package {package}: {problem}");
        let tree = String::from_utf8(output.stdout).unwrap();
        assert!(tree.starts_with(package), "{tree}");
        let reached: BTreeSet<&str> =
            tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        let bad = IMPURE_DEPENDENCIES.iter().filter(|name| reached.contains(*name));
        wrong.extend(bad.map(|name| format!("{package} -> {name}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_modules_read_no_clock() {
    let mut wrong = Vec::new();
    for folder in PURE {
        let mut files = Vec::new();
        let source = root().join(folder).join("src");
        collect_modules(&source.join("lib.rs"), &source, &mut files);
        for (path, file) in files {
            let mut finder = ClockFinder::default();
            finder.visit_file(&file);
            wrong.extend(finder.lines.into_iter().map(|line| format!("{}:{line}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "clocks in pure modules: {wrong:#?}");
}

/// Follows `mod name;` from `path`, whose own modules lie in `directory`, leaving out what a
/// feature or `test` guards.
fn collect_modules(path: &Path, directory: &Path, files: &mut Vec<(PathBuf, syn::File)>) {
    let file = parse(path);
    for item in &file.items {
        let syn::Item::Mod(module) = item else { continue };
        if module.content.is_some() || is_guarded(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let inner = directory.join(&name);
        let flat = directory.join(format!("{name}.rs"));
        let path = if flat.is_file() { flat } else { inner.join("mod.rs") };
        collect_modules(&path, &inner, files);
    }
    files.push((path.to_owned(), file));
}

fn parse(path: &Path) -> syn::File {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether `#[cfg(test)]` or `#[cfg(feature = ...)]` stands on an item.
fn is_guarded(attributes: &[syn::Attribute]) -> bool {
    is_test(attributes) || attributes.iter().any(|attribute| cfg_names(attribute, "feature"))
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        cfg_names(attribute, "test") || attribute.path().segments.last().unwrap().ident == "test"
    })
}

fn cfg_names(attribute: &syn::Attribute, name: &str) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    list.path.is_ident("cfg") && list.tokens.to_string().starts_with(name)
}

#[derive(Default)]
struct ClockFinder {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for ClockFinder {
    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        if CLOCKS.iter().any(|clock| ident == clock) {
            self.lines.push(ident.span().start().line);
        }
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        let guarded = match item {
            syn::Item::Mod(item) => is_guarded(&item.attrs),
            syn::Item::Fn(item) => is_guarded(&item.attrs),
            syn::Item::Use(item) => is_guarded(&item.attrs),
            _ => false,
        };
        if !guarded {
            visit::visit_item(self, item);
        }
    }
}

/// Sizes of what is over its limit: path, or path and function, to lines.
type Sizes = BTreeMap<String, usize>;

#[test]
fn functions_and_files_stay_short() {
    let list = fs::read_to_string(root().join("interop-tests/tests/size_ratchet.txt")).unwrap();
    let tolerated: Sizes = list
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (lines, name) = line.trim().split_once(' ').unwrap();
            (name.to_owned(), lines.parse().unwrap())
        })
        .collect();
    let found = oversized();
    let mut wrong = Vec::new();
    for (name, lines) in &found {
        match tolerated.get(name) {
            None => wrong.push(format!("{lines} {name}: split it")),
            Some(limit) if lines > limit => {
                wrong.push(format!("{lines} {name}: it had {limit} lines, it may not grow"));
            }
            Some(_) => {}
        }
    }
    for name in tolerated.keys().filter(|name| !found.contains_key(*name)) {
        wrong.push(format!("{name}: not over its limit any more, take it off the list"));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn oversized() -> Sizes {
    let root = root();
    let mut sizes = Sizes::new();
    for (folder, ..) in GRAPH {
        for path in rust_files(&root.join(folder)) {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let file = parse(&path);
            let mut measure = Measure::default();
            measure.visit_file(&file);
            let lines = fs::read_to_string(&path).unwrap().lines().count() - measure.test_lines;
            if lines > MAX_FILE_LINES {
                sizes.insert(name.clone(), lines);
            }
            for (function, lines) in measure.long {
                sizes.insert(format!("{name} {function}"), lines);
            }
        }
    }
    sizes
}

/// Every Rust file below `directory` that is not all tests.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "target" {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[derive(Default)]
struct Measure {
    long: Vec<(String, usize)>,
    test_lines: usize,
}

impl Measure {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = lines_between(signature, block);
        if lines > MAX_FUNCTION_LINES {
            self.long.push((signature.ident.to_string(), lines));
        }
    }
}

fn lines_between(first: &impl Spanned, last: &impl Spanned) -> usize {
    last.span().end().line - first.span().start().line + 1
}

impl<'ast> Visit<'ast> for Measure {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if is_test(&module.attrs) {
            self.test_lines += lines_between(module, module);
        } else {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
    }
}

#[test]
fn the_measure_counts_what_it_should() {
    let body = "let _ = 1;\n".repeat(MAX_FUNCTION_LINES);
    let text = format!(
        "fn long() {{\n{body}}}\nimpl X {{ fn short() {{}} }}\n#[cfg(test)]\nmod tests {{\nfn long() {{\n{body}}}\n}}\n"
    );
    let mut measure = Measure::default();
    measure.visit_file(&syn::parse_file(&text).unwrap());
    assert_eq!(measure.long, [("long".to_owned(), MAX_FUNCTION_LINES + 2)]);
    assert_eq!(measure.test_lines, MAX_FUNCTION_LINES + 5);
    let mut finder = ClockFinder::default();
    let text = "use std::time::Instant;\n#[cfg(test)]\nmod tests { use std::time::Instant; }\n\
                /// Instant\nfn f() { let _ = std::time::SystemTime::now(); }";
    finder.visit_file(&syn::parse_file(text).unwrap());
    assert_eq!(finder.lines, [1, 5]);
}
