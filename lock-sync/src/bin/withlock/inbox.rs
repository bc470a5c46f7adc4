//! The guardian's inbox: withlock's orders, and word of signals.
//!
//! The thread that decides reads them itself. If another thread did, both could have been stopped for a while, and the one
//! would decide by a deadline that has passed before the other has read the next, which waits in the pipe.

use crate::order::Order;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read};
use std::time::Duration;

/// As much as a pipe holds.
const PIPE: usize = 64 * 1024;

pub(crate) struct Inbox {
    /// [`None`] once withlock has closed the pipe: no more orders come.
    orders: Option<File>,
    /// The beginning of an order whose end is not there yet.
    begun: Vec<u8>,
    /// A byte for each signal.
    bell: PipeReader,
}

impl Inbox {
    /// Reads orders from this pipe, and is woken by what is written to the pipe that is returned.
    pub(crate) fn new(orders: File) -> io::Result<(Self, PipeWriter)> {
        let (bell, rings) = io::pipe()?;
        fcntl_setfl(&orders, OFlags::NONBLOCK)?;
        fcntl_setfl(&bell, OFlags::NONBLOCK)?;
        fcntl_setfl(&rings, OFlags::NONBLOCK)?;
        Ok((Self { orders: Some(orders), begun: Vec::new(), bell }, rings))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.orders.is_none()
    }

    /// Waits until there is something, for `nap` at the longest. Returns all orders that there are.
    pub(crate) fn read(&mut self, nap: Duration) -> io::Result<Vec<Order>> {
        self.wait(nap)?;
        let mut read = vec![0; PIPE];
        // The bell only wakes the guardian: its bytes say nothing.
        let _ = self.bell.read(&mut read);
        match self.orders.as_mut().map(|orders| orders.read(&mut read)) {
            Some(Ok(length @ 1..)) => self.begun.extend(&read[..length]),
            Some(Err(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            _ => self.orders = None,
        }
        let end = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.begun.drain(..end).collect();
        let lines = String::from_utf8_lossy(&lines);
        Ok(lines.lines().filter_map(|line| line.parse().ok()).collect())
    }

    fn wait(&self, nap: Duration) -> io::Result<()> {
        let mut files = vec![PollFd::new(&self.bell, PollFlags::IN)];
        files.extend(self.orders.iter().map(|orders| PollFd::new(orders, PollFlags::IN)));
        let nap = Timespec::try_from(nap).map_err(|_| ErrorKind::InvalidInput)?;
        match poll(&mut files, Some(&nap)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    fn inbox() -> (Inbox, PipeWriter, PipeWriter) {
        let (reads, writes) = io::pipe().expect("a pipe");
        let (inbox, rings) = Inbox::new(File::from(OwnedFd::from(reads))).expect("a pipe");
        (inbox, writes, rings)
    }

    fn texts(orders: &[Order]) -> Vec<String> {
        orders.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_orders_are_read_and_each_as_a_whole() {
        let (mut inbox, mut writes, _rings) = inbox();
        writes.write_all(b"until 1\nnonsense\nsignal 10\nunt").expect("written");
        assert_eq!(texts(&inbox.read(LONG).expect("read")), ["until 1\n", "signal 10\n"]);
        writes.write_all(b"il 2\n").expect("written");
        assert_eq!(texts(&inbox.read(LONG).expect("read")), ["until 2\n"]);
        assert!(!inbox.is_closed());
    }

    #[test]
    fn orders_come_to_an_end_and_signals_go_on() {
        let (mut inbox, writes, mut rings) = inbox();
        drop(writes);
        assert!(inbox.read(LONG).expect("read").is_empty());
        assert!(inbox.is_closed());
        rings.write_all(&[0; 3]).expect("rung");
        let began = Instant::now();
        assert!(inbox.read(LONG).expect("read").is_empty());
        assert!(began.elapsed() < LONG, "the bell was heard");
        let nap = Duration::from_millis(200);
        let began = Instant::now();
        assert!(inbox.read(nap).expect("read").is_empty());
        assert!(began.elapsed() >= nap, "it does not spin, and a bell is heard once");
    }
}
