//! What withlock tells about itself.

use crate::args::definition;
use clap_complete::{Shell, generate};
use std::io::stdout;

/// After the options, in the help. The manual page says the same in more words.
pub(crate) const AFTER: &str = "\
Examples:
  withlock report ./report.sh               one at a time for this user
  withlock --db postgres://app@db/app report ./report.sh
                                            one at a time in the fleet
  withlock -n report ./report.sh            do nothing if it is running (75)
  withlock -w 5m deploy make deploy         wait five minutes at most (124)
  withlock --skip --min-hold 1m cron …      of many machines' cron, one does it
  withlock --list                           who holds what
  withlock --break report                   take it away from its holder

Exit codes: the command's is passed on; 128+n if signal n ended it, or the wait.
   75  --try: somebody else has the lock        123  the lock was lost; the command was stopped
  124  --wait: somebody else had it all along   125  withlock itself failed
  126  COMMAND cannot be executed               127  COMMAND was not found

A TIME is 250ms, 30s, 5m, 2h, 7d or 1h30m; a bare number is seconds. An option may follow NAME,
but not COMMAND: what follows it is the command's. A command with a -- of its own needs -- before it.

Where locks are kept is named by the first of: --db; WITHLOCK_URL; the file that
WITHLOCK_URL_FILE names; the systemd credential withlock-url; ~/.config/withlock/url;
/etc/withlock/url; PG_CONNECTION_STRING. Without any, it is a file of this user's on this
machine, and other users have others. Inside a command, it is the outer withlock's place.

The command finds WITHLOCK_NAME and WITHLOCK_FENCE in its environment; the fence is a number that is
higher at every grant of the lock. Signals are passed to it. When the lock can no longer be renewed, it
gets TERM, then KILL before the lease is over; when the lock was taken, KILL at once. Standard output
is the command's alone.";

/// Writes to standard output what a shell needs for completing withlock's options.
pub(crate) fn completions(shell: Shell) {
    let mut text = Vec::new();
    generate(shell, &mut definition(), "withlock", &mut text);
    write(&text);
}

/// Writes the manual page to standard output.
pub(crate) fn manual() {
    write(crate::manual::page().as_bytes());
}

/// Who closes the pipe early has read enough.
fn write(text: &[u8]) {
    use std::io::Write;
    let _ = stdout().write_all(text);
}
