//! What the project has beside the servers: golden statements and requests, corpora, documentation, recipes, examples.

mod corpora;
mod docs;
mod examples;
mod recipes;
mod requests;
mod siblings;
mod signatures;
mod statements;
mod words;
