//! The exchange with the server that a request takes.

use crate::error::Failure;
use crate::outcome::Reply;
use crate::sql::{Exchange, Rows, Statement, advisory};

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) enum Running {
    Table(Exchange),
    Advisory(advisory::Exchange),
}

impl Running {
    pub(super) fn poll_statement(&self) -> Option<Statement> {
        match self {
            Running::Table(exchange) => exchange.poll_statement(),
            Running::Advisory(exchange) => exchange.poll_statement(),
        }
    }

    pub(super) fn handle(&mut self, result: Result<Rows, Failure>) {
        match (self, result) {
            (Running::Table(exchange), Ok(rows)) => exchange.handle_rows(rows),
            (Running::Table(exchange), Err(failure)) => exchange.handle_failure(failure),
            (Running::Advisory(exchange), Ok(rows)) => exchange.handle_rows(rows),
            (Running::Advisory(exchange), Err(failure)) => exchange.handle_failure(failure),
        }
    }

    pub(super) fn finish(self) -> Result<Reply, Failure> {
        match self {
            Running::Table(exchange) => exchange.finish(),
            Running::Advisory(exchange) => exchange.finish(),
        }
    }
}
