//! Copies lock-core's sources and builds the bugs of the table into the copy, each behind a switch.
//! A bug whose place is no longer found fails the build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

include!("table.rs");

fn main() {
    let core = Path::new("../../lock-core/src");
    println!("cargo:rerun-if-changed=../../lock-core/src");
    println!("cargo:rerun-if-changed=table.rs");
    println!("cargo:rerun-if-changed=table");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("core");
    let _ = fs::remove_dir_all(&out);
    copy(core, core, &out);
}

fn copy(root: &Path, from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("sources") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy(root, &from, &to);
            continue;
        }
        let name = from.strip_prefix(root).expect("inside").to_str().expect("UTF-8");
        let mut text = fs::read_to_string(&from).expect("a source");
        if name == "lib.rs" {
            // What belongs to a crate's own file.
            let inner = |line: &&str| !line.starts_with("//!") && !line.starts_with("#![");
            text = text.lines().filter(inner).collect::<Vec<_>>().join("\n");
        }
        let mutants = MUTANTS.into_iter().flatten().filter(|mutant| mutant.file == name);
        text = mutate(&text, &mutants.collect::<Vec<_>>());
        fs::write(&to, text).expect("written");
    }
}

/// Puts each bug in the first place after its anchor.
fn mutate(text: &str, mutants: &[&Mutant]) -> String {
    let mut places = BTreeMap::<usize, Vec<&Mutant>>::new();
    for mutant in mutants {
        let Mutant { name, file, after, good, .. } = mutant;
        let anchor = text.find(after).unwrap_or_else(|| panic!("{name}: {after:?} not in {file}"));
        let good =
            text[anchor..].find(good).unwrap_or_else(|| panic!("{name}: {good:?} not in {file}"));
        places.entry(anchor + good).or_default().push(mutant);
    }
    let (mut mutated, mut rest) = (String::new(), 0);
    for (place, mutants) in places {
        mutated += &text[rest..place];
        let good = mutants[0].good;
        for Mutant { name, bad, good: same, .. } in mutants {
            assert_eq!(*same, good, "{name}: two bugs overlap");
            mutated += &format!("if crate::is_on({name:?}) {{ {bad} }} else ");
        }
        mutated += &format!("{{ {good} }}");
        rest = place + good.len();
    }
    mutated + &text[rest..]
}
