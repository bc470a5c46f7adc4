//! Servers that restart, freeze and lie, networks that break, futures that are dropped.

mod bad_row;
mod cancel_async;
mod certificates;
mod chaos;
mod chaos_async;
mod chaos_sessions;
mod clock;
mod clock_stepped;
mod crash_consul;
mod deaf;
mod dropped_looks;
mod elections;
mod fail_over;
mod forked;
mod histories;
mod hostile_consul;
mod impostors;
mod in_plain_text;
mod late_answers;
mod late_server;
mod paused_writers;
mod reconnected;
mod slow_link;
mod stalled;
mod statements;
mod switch_over;
