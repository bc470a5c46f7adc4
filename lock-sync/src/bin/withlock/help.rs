//! The help, the completions and the manual page.

use crate::args::definition;
use clap_complete::{Shell, generate};
use std::io::stdout;

/// The part of the help after the options. The manual page says the same in more words.
pub(crate) const AFTER: &str = "\
Examples:
  withlock report ./report.sh               one at a time for this user on this machine
  withlock --db postgres://app@db/app report ./report.sh
                                            one at a time for all that use this database
  withlock -n report ./report.sh            do not wait; exit with 75 if it is running
  withlock -w 5m deploy make deploy         wait five minutes at most, then exit with 124
  withlock --skip --min-hold 1m cron ./x    the same crontab on many machines: one runs it
  withlock --leader scheduler ./x           one of many machines runs it, the next after a loss
  withlock --list                           list the locks that are held
  withlock --break report                   take the lock from its holder

Exit codes: the command's own, or 128+n if signal n ended the command or the wait, or:
   75  --try: someone else holds the lock         123  the lock was lost, the command was stopped
  124  --wait: someone else held it all along     125  withlock itself failed
  126  COMMAND cannot be executed                 127  COMMAND was not found
--skip exits with 0 if someone else holds the lock, and with 75 if nobody is known to hold it, but
the server does not give it away yet.

A TIME is 250ms, 30s, 5m, 2h, 7d or 1h30m. A bare number is seconds. Options may follow NAME.
All words after COMMAND belong to COMMAND.

The first of these names the place where locks are kept: --db; WITHLOCK_URL; the file that
WITHLOCK_URL_FILE names; the systemd credential withlock-url; ~/.config/withlock/url;
/etc/withlock/url; PG_CONNECTION_STRING. The default is a file of this user's on this machine;
other users have other files. A withlock inside COMMAND uses the same place as the outer one.
What the URL leaves open comes from the variables and files of the server's own clients (PGHOST,
PGPASSWORD, ~/.pgpass, MYSQL_PWD, CONSUL_HTTP_ADDR and so on); -v shows where that leads.

COMMAND finds WITHLOCK_NAME and WITHLOCK_FENCE in its environment. The fence is a number that
rises with every grant of the lock. withlock passes signals to COMMAND. If the lock cannot be
renewed, COMMAND gets TERM, then KILL before the lease ends. If the lock was taken, COMMAND gets
KILL as soon as withlock hears of it. Standard output is COMMAND's alone.";

/// Writes a shell's completions to standard output.
pub(crate) fn completions(shell: Shell) {
    let mut text = Vec::new();
    generate(shell, &mut definition(), "withlock", &mut text);
    write(&text);
}

/// Writes the manual page to standard output.
pub(crate) fn manual() {
    write(crate::manual::page().as_bytes());
}

/// A reader that closes the pipe early has read enough, so errors do not matter.
fn write(text: &[u8]) {
    use std::io::Write;
    let _ = stdout().write_all(text);
}
