//! The manual page: the options from the definition of the command line, the other sections from here.

use crate::args::definition;
use clap::{Arg, Command};
use std::fmt::Write;

/// The last change of the texts below.
const DATE: &str = "2026-12-01";

const SYNOPSIS: [&str; 6] = [
    "withlock [OPTIONS] NAME [--] COMMAND [ARGUMENT]...",
    "withlock --list [--json]",
    "withlock --status NAME [--json]",
    "withlock --break NAME [--yes]",
    "withlock --purge[=TIME]",
    "withlock --ddl",
];

/// The paragraphs of the description.
const DESCRIPTION: [&str; 7] = [
    "withlock waits for the lock NAME, runs COMMAND while it holds the lock, and releases the lock. Of all commands under the \
     same name in the same place, one runs at a time.",
    "Each lock is a lease. withlock renews it while COMMAND runs. If the machine dies, the lock is free one TTL later at most. If \
     the lease cannot be renewed, withlock ends COMMAND before anyone else can acquire the lock.",
    "With --leader, withlock stands by until the lock is free, and runs COMMAND while it holds the lock. If the lock is lost or \
     --max-hold is over, it ends COMMAND, stands by again, and starts COMMAND again in its next term. If COMMAND ends by itself, \
     withlock ends with its exit status: a service manager decides about a restart.",
    "The default place (see ENVIRONMENT and FILES) is a file of the user who runs withlock. Its locks exclude this user's \
     commands on this machine, and no others.",
    "Options may come before or after NAME. COMMAND begins with the first word after NAME that is no option, and all following \
     words belong to COMMAND. A \"--\" before COMMAND is allowed. It is needed if COMMAND has a \"--\" of its own.",
    "A TIME is written 250ms, 30s, 5m, 2h, 7d or 1h30m. A bare number is seconds.",
    "A withlock inside COMMAND keeps its locks in the same place, or refuses.",
];

const EXIT_STATUS: [(&str, &str); 9] = [
    (
        "0-255",
        "COMMAND's own exit status is passed on, such as 123 of xargs(1) or 124 of timeout(1).",
    ),
    ("128+n", "Signal n ended COMMAND, or withlock while it waited."),
    (
        "0",
        "With --skip: someone else holds the lock, and COMMAND was not run. With --status or --break: the lock is free.",
    ),
    (
        "75",
        "With --try, --status or --break: someone else holds the lock. With --skip: nobody is known to hold it, but the server \
         does not give it away yet. See -E.",
    ),
    (
        "123",
        "The lock was lost, or --max-hold was over, and COMMAND was stopped or never started. With --leader only after INT, QUIT, TERM or ALRM.",
    ),
    ("124", "With --wait: someone else held the lock all that time. See -E."),
    ("125", "withlock itself failed. One line on standard error says why."),
    ("126", "COMMAND cannot be executed."),
    ("127", "COMMAND was not found."),
];

/// The environment variables. Those that name a place come first, in the order in which withlock reads them.
const ENVIRONMENT: [(&str, &str); 12] = [
    (
        "WITHLOCK_URL",
        "The place where locks are kept, unless --db is given. COMMAND does not get this variable, because it can contain a \
         password.",
    ),
    (
        "WITHLOCK_URL_FILE",
        "A file that contains the URL. withlock sets it for COMMAND, so that a withlock inside finds the place.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd. The credential withlock-url is a file that contains the URL.",
    ),
    (
        "PG_CONNECTION_STRING",
        "The place where locks are kept, if nothing above and no file names one. COMMAND keeps this variable.",
    ),
    (
        "PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGPASSFILE, PGSSLMODE, PGSSLROOTCERT, PGTARGETSESSIONATTRS",
        "What a URL of PostgreSQL leaves open, as in psql(1). They name no place without a URL, such as postgres://.",
    ),
    ("MYSQL_HOST, MYSQL_TCP_PORT, MYSQL_PWD", "What a URL of MySQL or MariaDB leaves open."),
    (
        "CONSUL_HTTP_ADDR, CONSUL_HTTP_SSL, CONSUL_CACERT, CONSUL_TLS_SERVER_NAME, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN, CONSUL_NAMESPACE, CONSUL_PARTITION",
        "What a URL of Consul leaves open, as in consul(1). The address is used with consul:///PREFIX.",
    ),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME, HOME", "The folders of this user's files, see FILES."),
    ("WITHLOCK_NAME", "Set for COMMAND: the lock's name."),
    (
        "WITHLOCK_FENCE",
        "Set for COMMAND: the fencing token, a number that rises with every grant of the lock. A store that COMMAND writes to can \
         refuse a lower number than it has seen.",
    ),
    ("WITHLOCK_PERMIT", "Set for COMMAND with --permits: the number of the permit, from 1."),
    ("WITHLOCK_PLACE", "Set for COMMAND: the place where the lock is kept, without its password."),
];

/// True for an environment variable that the page describes.
pub(crate) fn has(variable: &str) -> bool {
    ENVIRONMENT.iter().any(|(names, _)| names.split(", ").any(|name| name == variable))
}

const FILES: [(&str, &str); 5] = [
    ("~/.config/withlock/url", "One URL: the place where this user's locks are kept."),
    ("/etc/withlock/url", "The same for all users of this machine."),
    (
        "~/.local/state/withlock/locks.db",
        "The default place of this user's locks. Another user has another file.",
    ),
    (
        "~/.pgpass",
        "Passwords for PostgreSQL, as in psql(1), for a URL without one. Ignored if its group or other users may read it.",
    ),
    (
        "$CREDENTIALS_DIRECTORY/withlock-url",
        "A systemd credential. In this file, as in the others, white space around the URL is ignored.",
    ),
];

const SIGNALS: [&str; 4] = [
    "While withlock waits for the lock, HUP, INT, QUIT, TERM and ALRM end it, and COMMAND is not run. While COMMAND runs, withlock passes \
     these, USR1, USR2, WINCH, TSTP and CONT to COMMAND's process group, and waits for COMMAND.",
    "If the lock cannot be renewed, COMMAND's process group gets TERM, then KILL before the lease ends (see --on-lost and --grace). \
     If the lock was taken (--break, a connection that was ended), COMMAND gets KILL as soon as withlock hears of it, at \
     its next renewal: someone else may hold the lock by then.",
    "If withlock is killed, the kernel and a guardian process kill COMMAND and the processes that it started. If withlock is stopped \
     for longer than the lease, the guardian ends COMMAND in time.",
    "In the foreground of a terminal, COMMAND stays in the terminal's process group, and the terminal sends it the signals of the \
     interrupt and stop keys.",
];

const EXAMPLES: [(&str, &str); 8] = [
    ("One at a time for this user on this machine:", "withlock report ./report.sh"),
    (
        "One at a time for all that use this database:",
        "withlock --db postgres://app@db/app report ./report.sh",
    ),
    ("Do nothing if the script is running:", "withlock -n report ./report.sh || [ $? = 75 ]"),
    ("Wait five minutes at most:", "withlock -w 5m deploy make deploy"),
    (
        "The same crontab on many machines, and one runs it:",
        "withlock --skip --min-hold 1m nightly ./nightly.sh",
    ),
    (
        "A service that runs on one of several machines, as a line for each of them:",
        "withlock --leader scheduler ./scheduler",
    ),
    ("List the locks that are held:", "withlock --list"),
    (
        "A place for everything that this user runs, cron included:",
        "install -Dm600 url ~/.config/withlock/url",
    ),
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
    // whatis looks for a dash that is not a minus.
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
    page += ".PP\nAn empty source of the URL is an error.\n";
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

/// Writes the options under the headings of the help, in its order.
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

/// Escapes text for roff. A dash becomes a minus, so that people can copy it.
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

/// Escapes text, and breaks lines after sentences and at 78 characters.
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
    fn every_text_is_in_its_section() {
        let page = page();
        let section = |title: &str| {
            let (_, rest) = page.split_once(&format!(".SH \"{title}\"\n")).expect(title);
            rest.split("\n.SH ").next().unwrap_or_default().to_string() + "\n"
        };
        let has = |title: &str, entry: String| {
            let section = section(title);
            assert!(section.contains(&entry), "{entry} is not in {section}");
        };
        SYNOPSIS.iter().for_each(|line| has("SYNOPSIS", format!("{}\n", text(line))));
        for (title, all) in [("DESCRIPTION", &DESCRIPTION[..]), ("SIGNALS", &SIGNALS[..])] {
            all.iter().for_each(|paragraph| has(title, format!("{}\n", lines(paragraph))));
        }
        let items =
            [("EXIT STATUS", &EXIT_STATUS[..]), ("ENVIRONMENT", &ENVIRONMENT), ("FILES", &FILES)];
        for (title, all) in items {
            for (tag, meaning) in all {
                has(title, format!("\\fB{}\\fR\n{}\n", text(tag), lines(meaning)));
            }
        }
        for (what, line) in EXAMPLES {
            has("EXAMPLES", format!("{}\n.RS 4\n.nf\n{}\n.fi\n", text(what), text(line)));
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
