//! The manual page: the options from the definition of the command line, the other sections from here.

use crate::args::definition;
use clap::{Arg, Command};
use std::fmt::Write;

/// The last change of the texts below.
const DATE: &str = "2026-11-27";

const SYNOPSIS: [&str; 6] = [
    "withlock [OPTIONS] NAME [--] COMMAND [ARGUMENT]...",
    "withlock --list [--json]",
    "withlock --status NAME [--json]",
    "withlock --break NAME [--yes]",
    "withlock --purge[=TIME]",
    "withlock --ddl",
];

/// A paragraph each.
const DESCRIPTION: [&str; 6] = [
    "withlock waits for the lock NAME, runs COMMAND while it holds it, and frees it. Of all commands that run under \
     the same name in the same place, one runs at a time.",
    "A lock is a lease: it is renewed while COMMAND runs, and free at the latest one TTL after the machine that held \
     it has died. When it cannot be renewed, COMMAND is ended before anybody else can get it.",
    "Without a place (see ENVIRONMENT and FILES), locks are kept in a file of the user who runs withlock: they \
     exclude this user's commands on this machine, and nobody else's.",
    "Options may come before or after NAME. COMMAND begins with the first word after NAME that is no option, and all that \
     follows is COMMAND's. A \"--\" before COMMAND says the same, and is needed if COMMAND has a \"--\" of its own.",
    "A TIME is written 250ms, 30s, 5m, 2h, 7d or 1h30m. A number alone is seconds.",
    "A withlock inside COMMAND keeps its locks in the same place, or refuses.",
];

const EXIT_STATUS: [(&str, &str); 9] = [
    ("0-255", "COMMAND's own exit status is passed on."),
    ("128+n", "Signal n ended COMMAND, or withlock while it waited."),
    ("0", "With --skip: somebody else has the lock. With --status or --break: it is free."),
    ("75", "With --try, --status or --break: somebody else has the lock. See -E."),
    ("123", "The lock was lost, and COMMAND was stopped or not started."),
    ("124", "With --wait: somebody else had the lock all that time. See -E."),
    ("125", "withlock itself failed. One line on standard error says why."),
    ("126", "COMMAND cannot be executed."),
    ("127", "COMMAND was not found."),
];

/// Read by withlock; the place first, in the order in which it is looked for.
const ENVIRONMENT: [(&str, &str); 9] = [
    (
        "WITHLOCK_URL",
        "Where locks are kept, if --db is not given. COMMAND does not get it, as there may be a password in it.",
    ),
    ("WITHLOCK_URL_FILE", "A file with that URL in it. Set for COMMAND, for a withlock inside it."),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd. The credential withlock-url is a file with the URL in it.",
    ),
    ("PG_CONNECTION_STRING", "Where locks are kept, if nothing else says it. COMMAND keeps it."),
    ("CONSUL_HTTP_TOKEN", "A token for Consul, if there is none in the URL."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME, HOME", "Where this user's files are, see FILES."),
    ("WITHLOCK_NAME", "Set for COMMAND: the lock's name."),
    (
        "WITHLOCK_FENCE",
        "Set for COMMAND: a number that is higher at every grant of the lock. What COMMAND writes to can refuse a lower \
         one than it has seen.",
    ),
    ("WITHLOCK_PLACE", "Set for COMMAND: where the lock is kept, without a password."),
];

const FILES: [(&str, &str); 4] = [
    ("~/.config/withlock/url", "Where this user's locks are kept: one URL."),
    ("/etc/withlock/url", "The same for all users of this machine."),
    (
        "~/.local/state/withlock/locks.db",
        "This user's locks, if nothing says where they are kept. Another user has another file.",
    ),
    (
        "$CREDENTIALS_DIRECTORY/withlock-url",
        "A systemd credential. White space around the URL is not part of it, here as in the other files.",
    ),
];

const SIGNALS: [&str; 4] = [
    "While withlock waits for the lock, HUP, INT, QUIT and TERM end it, and COMMAND is not run. While COMMAND runs, signals to \
     withlock are passed to COMMAND's process group, and COMMAND is awaited.",
    "When the lock can no longer be renewed, COMMAND's process group gets TERM, and KILL by the end of the lease (see --on-lost \
     and --grace). If the lock was taken (--break, a connection that was ended), KILL comes at once, as somebody else may \
     have the lock by then.",
    "When withlock is killed, the kernel and a guardian process kill COMMAND and what it started. When withlock is stopped \
     for longer than the lease, the guardian ends COMMAND in time.",
    "In the foreground of a terminal, COMMAND stays in the terminal's process group, and the keys for interrupt and stop \
     reach it directly.",
];

const EXAMPLES: [(&str, &str); 7] = [
    ("One at a time for this user:", "withlock report ./report.sh"),
    ("One at a time in the fleet:", "withlock --db postgres://app@db/app report ./report.sh"),
    ("Do nothing if it is running:", "withlock -n report ./report.sh || [ $? = 75 ]"),
    ("Wait five minutes at most:", "withlock -w 5m deploy make deploy"),
    ("Of many machines' cron, one does it:", "withlock --skip --min-hold 1m nightly ./nightly.sh"),
    ("Who holds what:", "withlock --list"),
    ("A place for all that this user runs, cron too:", "install -Dm600 url ~/.config/withlock/url"),
];

/// The page as roff, for the man macros.
pub(crate) fn page() -> String {
    let mut definition = definition();
    definition.build();
    let version = definition.get_version().unwrap_or_default();
    let mut page = format!(
        ".\\\" Made by withlock --man.\n.TH WITHLOCK 1 {DATE} \"withlock {version}\" \"User Commands\"\n.nh\n.ad l\n"
    );
    section(&mut page, "NAME");
    let about = definition.get_about().map(ToString::to_string).unwrap_or_default();
    // So that whatis finds it, this dash is not a minus.
    page += &format!("withlock \\- {}\n", text(&about.replace("Runs", "run")));
    section(&mut page, "SYNOPSIS");
    page += ".nf\n";
    for line in SYNOPSIS {
        page += &format!("{}\n", text(line));
    }
    page += ".fi\n";
    section(&mut page, "DESCRIPTION");
    paragraphs(&mut page, &DESCRIPTION);
    section(&mut page, "OPTIONS");
    options(&mut page, &definition);
    section(&mut page, "EXIT STATUS");
    items(&mut page, &EXIT_STATUS);
    section(&mut page, "ENVIRONMENT");
    items(&mut page, &ENVIRONMENT);
    page += ".PP\nA source of the URL that is empty is an error, and is not passed over.\n";
    section(&mut page, "FILES");
    items(&mut page, &FILES);
    section(&mut page, "SIGNALS");
    paragraphs(&mut page, &SIGNALS);
    section(&mut page, "EXAMPLES");
    for (number, (what, line)) in EXAMPLES.iter().enumerate() {
        let between = if number == 0 { "" } else { ".PP\n" };
        page += &format!("{between}{}\n.RS 4\n.nf\n{}\n.fi\n.RE\n", text(what), text(line));
    }
    section(&mut page, "SEE ALSO");
    page += ".BR flock (1),\n.BR timeout (1),\n.BR signal (7)\n";
    page
}

fn section(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SH {}", quoted(title));
}

fn paragraphs(page: &mut String, all: &[&str]) {
    for (number, paragraph) in all.iter().enumerate() {
        let between = if number == 0 { "" } else { ".PP\n" };
        let _ = writeln!(page, "{between}{}", lines(paragraph));
    }
}

fn items(page: &mut String, all: &[(&str, &str)]) {
    for (tag, meaning) in all {
        let _ = writeln!(page, ".TP 8\n\\fB{}\\fR\n{}", text(tag), lines(meaning));
    }
}

/// Under the headings that the help has, in its order.
fn options(page: &mut String, definition: &Command) {
    let all = || definition.get_arguments().filter(|arg| !arg.is_hide_set());
    let mut headings = vec![None];
    for arg in all() {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            let _ = writeln!(page, ".SS {}", quoted(heading));
        }
        for arg in all().filter(|arg| arg.get_help_heading() == heading) {
            let _ = writeln!(page, ".TP 8\n{}\n{}", tag(arg), lines(&meaning(arg)));
        }
    }
}

fn tag(arg: &Arg) -> String {
    let takes = arg.get_action().takes_values();
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| text(name));
    let value = value.filter(|_| takes).unwrap_or_default();
    if arg.is_positional() {
        return format!("\\fI{value}\\fR");
    }
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = arg.get_long().map(|long| format!("\\fB{}\\fR", text(&format!("--{long}"))));
    let names: Vec<_> = [short, long].into_iter().flatten().collect();
    let value = match (takes, arg.is_require_equals_set()) {
        (false, _) => String::new(),
        (true, true) => format!("[=\\fI{value}\\fR]"),
        (true, false) => format!(" \\fI{value}\\fR"),
    };
    names.join(", ") + &value
}

fn meaning(arg: &Arg) -> String {
    if arg.get_id() == "help" {
        return "Print the help; with -h, a summary of it".to_string();
    }
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    let default: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if arg.get_action().takes_values() && !default.is_empty() {
        text += &format!(" [default: {}]", default.join(" "));
    }
    text
}

/// Text in which nothing is an order to roff. A dash is a minus, as people copy it.
fn text(plain: &str) -> String {
    let mut text = String::new();
    for letter in plain.chars() {
        match letter {
            '\\' => text += "\\e",
            '-' => text += "\\-",
            '~' => text += "\\(ti",
            '^' => text += "\\(ha",
            '`' => text += "\\(ga",
            '\'' => text += "\\(aq",
            '"' => text += "\\(dq",
            '\n' => text.push(' '),
            other => text.push(other),
        }
    }
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// The same, a line for each sentence, and for as much of one as fits.
fn lines(plain: &str) -> String {
    const MOST: usize = 78;
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in plain.split_whitespace().map(text) {
        if line.ends_with(['.', ':']) || line.len() + word.len() >= MOST {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += &word;
    }
    lines.push(line);
    lines.join("\n")
}

fn quoted(plain: &str) -> String {
    format!("\"{}\"", text(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_text() {
        let mut definition = definition();
        definition.build();
        let page = page();
        for arg in definition.get_arguments() {
            let meaning = meaning(arg);
            assert!(meaning.len() > 10, "{} has no text: {meaning:?}", arg.get_id());
            let entry = format!(".TP 8\n{}\n{}\n", tag(arg), lines(&meaning));
            assert!(page.contains(&entry), "{entry} is not in {page}");
        }
    }

    #[test]
    fn nothing_in_a_text_is_an_order() {
        assert_eq!(text(".so x"), "\\&.so x");
        assert_eq!(text("'a' \\fB--x"), "\\(aqa\\(aq \\efB\\-\\-x");
        assert!(page().is_ascii());
        let orders = [
            ".\\\"", ".TH", ".nh", ".ad", ".SH", ".SS", ".PP", ".TP", ".nf", ".fi", ".RS", ".RE",
            ".BR",
        ];
        for line in page().lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(orders.contains(&line.split(' ').next().unwrap_or_default()), "{line}");
        }
    }

    #[test]
    fn sections_are_those_of_other_pages_in_their_order() {
        let page = page();
        let found: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXIT STATUS",
            "ENVIRONMENT",
            "FILES",
            "SIGNALS",
            "EXAMPLES",
            "SEE ALSO",
        ];
        assert_eq!(found, expected.map(|title| format!("\"{title}\"")));
    }
}
