//! What the project has beside the servers: golden statements and requests, corpora, documentation, examples.

mod alike;
mod corpora;
mod docs;
mod examples;
mod requests;
mod statements;
