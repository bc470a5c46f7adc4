//! Real databases against the table that the model checker believes in: random commands, at times
//! that the test sets, and the same replies.

mod body;
mod mysql;
mod postgres;
mod sqlite;
