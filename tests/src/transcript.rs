//! Shell sessions written down in Markdown, and run again.
//!
//! ````text
//! ```console
//! $ withlock --try report -- false      a command; lines that begin with > belong to it
//! ? 1                                   its exit code, if that is not 0
//! some [..] words                       what it prints, on whichever output; [..] is anything
//! ...                                   any number of lines
//! ```
//! ````
//!
//! All blocks of a file are one session of one shell, in a folder of its own.

use crate::withlock::{Sandbox, binary};
use std::process::Stdio;

/// Follows what a command printed and precedes its exit code. No command of ours prints it.
const MARK: char = '\u{1e}';

/// A command, and its expected exit code and output.
struct Step {
    line: usize,
    command: String,
    code: i32,
    output: Vec<String>,
}

/// Runs the session in `text`, the content of `file`, with locks at `url`. Returns how many commands
/// it has.
pub fn run(file: &str, text: &str, url: &str) -> usize {
    run_in(&Sandbox::new(), file, text, url)
}

/// Runs the session in a sandbox that has files already.
pub fn run_in(sandbox: &Sandbox, file: &str, text: &str, url: &str) -> usize {
    let steps = steps(text);
    std::fs::create_dir_all(sandbox.path("bin")).expect("a folder");
    std::os::unix::fs::symlink(binary(), sandbox.path("bin/withlock")).expect("linked");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = sandbox.command("sh");
    command
        .env("PATH", format!("{}:{path}", sandbox.path("bin").display()))
        .env("TERM", "dumb")
        .args(["-c", &script(&steps)])
        .stdin(Stdio::null());
    if !url.is_empty() {
        command.env("WITHLOCK_URL", url);
    }
    let ended = sandbox.start(&mut command).end();
    let mut told = ended.stdout.split(MARK);
    for step in &steps {
        let at = format!("{file}:{}: $ {}", step.line, step.command);
        let (output, code) = match (told.next(), told.next()) {
            (Some(output), Some(code)) => (output, code),
            other => panic!("{at}: the shell ended: {other:?}, {}", ended.stderr),
        };
        let expected = step.output.join("\n");
        let lines: Vec<_> = output.lines().collect();
        assert!(
            code == step.code.to_string() && matches(&step.output, &lines),
            "{at}\n--- expected, with exit code {}:\n{expected}\n--- got, with {code}:\n{output}",
            step.code,
        );
    }
    steps.len()
}

/// The blocks of one language in a page.
pub fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("```") {
            inside = told == language;
            if inside {
                blocks.push(String::new());
            }
        } else if inside && let Some(block) = blocks.last_mut() {
            *block += line;
            *block += "\n";
        }
    }
    blocks
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let command = command.to_string();
            steps.push(Step { line: at + 1, command, code: 0, output: Vec::new() });
        } else if let Some(step) = steps.last_mut().filter(|_| inside) {
            let code = line.strip_prefix("? ").and_then(|code| code.parse().ok());
            match (line.strip_prefix("> "), code) {
                (Some(more), _) if step.output.is_empty() => step.command += &format!("\n{more}"),
                (_, Some(code)) if step.output.is_empty() => step.code = code,
                _ => step.output.push(line.to_string()),
            }
        }
    }
    assert!(!steps.is_empty(), "a session without a command");
    steps
}

/// The script for one shell: all commands, each followed by its exit code. It ends by killing background
/// jobs.
fn script(steps: &[Step]) -> String {
    let mut script = String::from("exec 2>&1\n");
    for step in steps {
        script += &format!("{{ {}\n}}\nprintf '{MARK}%d{MARK}' $?\n", step.command);
    }
    // Not all shells know their jobs inside a substitution.
    script + "jobs -p >.jobs; kill $(cat .jobs) 2>/dev/null; wait\n"
}

fn matches(expected: &[String], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=lines.len()).any(|skip| matches(rest, &lines[skip..]))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others)),
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut line) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return line.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return line.ends_with(part);
        }
        match line.find(part) {
            Some(at) => line = &line[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_matched_with_what_may_be_anything() {
        for (expected, line, is_so) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a[..]", "abc", true),
            ("[..]c", "abc", true),
            ("a[..]c", "abd", false),
            ("a[..]b[..]c", "a1b2c", true),
            ("a[..]b[..]c", "a1c", false),
            ("", "", true),
        ] {
            assert_eq!(line_matches(expected, line), is_so, "{expected} {line}");
        }
    }

    #[test]
    #[should_panic(expected = "t.md:2: $ echo no")]
    fn another_output_is_a_failure() {
        run("t.md", "```console\n$ echo no\nyes\n```\n", "nonsense");
    }

    #[test]
    #[should_panic(expected = "with exit code 0")]
    fn another_exit_code_is_a_failure() {
        run("t.md", "```console\n$ false\n```\n", "nonsense");
    }
}
