//! The steps of a flow.

use crate::sql::Statement;
use core::time::Duration;

/// The next thing that the driver does.
#[derive(Clone, Debug)]
pub enum Do {
    /// Open the connection, or a new one in its place.
    Open,
    /// Run this statement.
    Run(Statement),
    /// Wait this long for notifications. Answer as soon as there is one.
    Await(Duration),
}

/// A connection that was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// The server's name for it, if the client tells.
    pub id: Option<u32>,
    /// It is the caller's, who may have left it in the middle of something.
    pub brought: bool,
    /// It is another one for each statement, from a pool that others use, too.
    pub shared: bool,
}
