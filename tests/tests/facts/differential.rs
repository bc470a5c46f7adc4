//! Real databases against the servers that the model checker believes in: random commands, and the same
//! replies; those about a table at times that the test sets.

mod advisory;
mod body;
mod mysql;
mod postgres;
mod sqlite;
