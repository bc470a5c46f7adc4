//! No type of a dependency stands in what a crate promises, but behind the feature that brings the dependency: otherwise
//! each major version of the dependency would be one of the crate's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The features that may show a dependency's types.
const SHOWN: [(&str, &[&str]); 6] = [
    ("postgres", &["postgres"]),
    ("tokio_postgres", &["postgres"]),
    ("mysql", &["mysql"]),
    ("mysql_async", &["mysql"]),
    ("rusqlite", &["sqlite"]),
    ("sqlx", &["sqlx-postgres", "sqlx-mysql"]),
];

/// Folders of the drivers that show nothing.
const PRIVATE: [&str; 2] = ["backend", "driver"];

/// A crate's dependencies, by the names that code has for them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let after = manifest.split("[dependencies]").nth(1).expect("there are some");
    let lines = after.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split([' ', '.', '=']).next());
    let names = names.filter(|name| !name.is_empty() && !name.starts_with(['#', ']', '}']));
    names.map(|name| name.replace('-', "_")).filter(|name| !name.starts_with("lock_")).collect()
}

/// The words of a text, paths as a whole.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| !word.is_empty())
}

/// The dependency that each imported name comes from.
fn imports(text: &str, dependencies: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for statement in format!("\n{text}").split("\nuse ").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        let root =
            words(statement).next().and_then(|path| path.split(':').next()).unwrap_or_default();
        if dependencies.contains(root) {
            let all = words(statement).filter_map(|path| path.rsplit(':').next());
            let types = all.filter(|name| name.starts_with(char::is_uppercase));
            names.extend(types.map(|name| (name.to_string(), root.to_string())));
        }
    }
    names
}

/// The features that the attributes before a line ask for.
fn features(before: &[&str]) -> Vec<String> {
    let attributes = before.iter().rev().take_while(|line| {
        let line = line.trim();
        ["#[", "///", "//"].iter().any(|begin| line.starts_with(begin))
    });
    let cfgs = attributes.filter(|line| line.trim().starts_with("#[cfg("));
    cfgs.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_string)).collect()
}

/// The public lines of a file, as far as the crate's users may see them, each with the features that it needs.
fn public(text: &str) -> Vec<(String, Vec<String>)> {
    let lines: Vec<&str> = text.split("#[cfg(test)]").next().unwrap_or_default().lines().collect();
    let (mut all, mut at, mut within) = (Vec::new(), 0, None::<String>);
    while at < lines.len() {
        let (line, indent) = (lines[at].trim(), lines[at].len() - lines[at].trim_start().len());
        if within.as_ref().is_some_and(|end| lines[at] == end) {
            within = None;
        }
        let shown = line.starts_with("pub ") || line.starts_with("impl");
        if (within.is_some() && !line.starts_with("//")) || shown {
            let begin = at;
            let mut whole = line.to_string();
            while shown
                && !whole.contains(['{', ';'])
                && !whole.ends_with(',')
                && at + 1 < lines.len()
            {
                at += 1;
                whole = format!("{whole} {}", lines[at].trim());
            }
            if ["pub enum", "pub trait"].iter().any(|begin| whole.starts_with(begin))
                && !whole.contains('}')
            {
                within = Some(" ".repeat(indent) + "}");
            }
            all.push((whole, features(&lines[..begin])));
        }
        at += 1;
    }
    all
}

/// The dependencies' types in a file's public lines that need no feature of theirs.
fn leaks(text: &str, gate: &[String], dependencies: &BTreeSet<String>) -> Vec<String> {
    let imported = imports(text, dependencies);
    let mut leaks = Vec::new();
    for (line, features) in public(text) {
        // The body of a short function, and the value of a constant, are nobody's business.
        let signature = line.split(['{', '=']).next().unwrap_or_default();
        for word in words(signature) {
            let root = word.split("::").next().unwrap_or_default();
            let root =
                if word.contains("::") { root } else { imported.get(word).map_or("", |root| root) };
            let allowed =
                SHOWN.iter().find(|(name, _)| *name == root).map_or(&[][..], |(_, all)| all);
            let has = |feature: &&str| features.iter().chain(gate).any(|given| given == feature);
            if dependencies.contains(root) && !allowed.iter().any(has) {
                leaks.push(format!("{word} in: {line}"));
            }
        }
    }
    leaks
}

/// The files of a crate's library, each with the features that its modules need.
fn files(folder: &Path, gate: &[String]) -> Vec<(PathBuf, Vec<String>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().to_string();
        if ["bin", "tests", "sim"].contains(&&*name) || PRIVATE.contains(&&*name) {
            continue;
        }
        let parent = match folder.file_name().expect("a name").to_str() {
            Some("src") => folder.join("lib.rs"),
            _ => folder.with_extension("rs"),
        };
        let parent = std::fs::read_to_string(parent).unwrap_or_default();
        let lines: Vec<&str> = parent.lines().collect();
        let declares = |line: &&str| line.trim().ends_with(&format!("mod {name};"));
        let at = lines.iter().position(declares);
        let own = at.map(|at| features(&lines[..at])).unwrap_or_default();
        let gate = [gate, &own].concat();
        match path.is_dir() {
            true => all.extend(files(&path, &gate)),
            false => all.push((path, gate)),
        }
    }
    all
}

fn leaks_of(crate_folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate_folder);
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("read");
    let dependencies = dependencies(&manifest);
    assert!(dependencies.len() > 1, "{dependencies:?}");
    let (mut all, mut seen) = (Vec::new(), 0);
    for (file, gate) in files(&root.join("src"), &[]) {
        let text = std::fs::read_to_string(&file).expect("read");
        for private in PRIVATE {
            assert!(!text.contains(&format!("pub mod {private}")), "{}", file.display());
            assert!(!text.contains(&format!("\npub use {private}")), "{}", file.display());
            assert!(!text.contains(&format!("\npub use crate::{private}")), "{}", file.display());
        }
        seen += public(&text).len();
        let leaks = leaks(&text, &gate, &dependencies);
        all.extend(leaks.into_iter().map(|leak| format!("{}: {leak}", file.display())));
    }
    assert!(seen > 100, "{seen} public lines of {crate_folder}");
    all
}

#[test]
fn no_dependencys_type_is_public_without_its_feature() {
    for crate_folder in ["lock-core", "lock-sync", "lock-async"] {
        assert_eq!(leaks_of(crate_folder), Vec::<String>::new());
    }
}

#[test]
fn a_type_of_a_dependency_is_found_wherever_it_stands() {
    let all = dependencies(
        "[dependencies]\nmysql = \"1\"\ntracing.workspace = true\n[features]\nx = []\n",
    );
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), ["mysql", "tracing"]);
    let leaks = |text: &str, gate: &[&str]| {
        let gate: Vec<_> = gate.iter().map(ToString::to_string).collect();
        leaks(text, &gate, &all).len()
    };
    let own = "    #[cfg(feature = \"mysql\")]\n    #[must_use]\n";
    for (text, without) in [
        ("    pub fn a(\n        b: mysql::Conn,\n    ) -> u8 {\n", 1),
        ("use mysql::{Conn, Opts};\n    pub fn a(b: Conn, c: &Opts) {\n", 2),
        ("impl From<mysql::Error> for Error {\n", 1),
        ("pub enum A {\n    B(mysql::Error),\n}\n", 1),
        ("pub struct A {\n    pub b: mysql::Error,\n    c: mysql::Conn,\n}\n", 1),
        ("pub fn a(b: u8) { mysql::it() }\n    pub(crate) fn c(d: mysql::Conn) {\n", 0),
    ] {
        assert_eq!(leaks(text, &[]), without, "{text}");
        assert_eq!(leaks(text, &["mysql"]), 0, "{text}");
    }
    assert_eq!(leaks(&format!("{own}    pub fn a(b: mysql::Conn) {{\n"), &[]), 0);
    // No feature of ours is about it.
    assert_eq!(leaks(&format!("{own}    pub fn a(b: tracing::Level) {{\n"), &["mysql"]), 1);
}
