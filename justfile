# What can be run, as short commands.
default:
    @just --list

# everything that decides whether a change lands
ci:
    .ci/run

# what takes too long for each change, in some hours; or some of its steps
nightly *steps:
    tests/nightly {{steps}}

# all tests, on real servers
test *names:
    tests/run {{names}}

# the tests that need no server
quick:
    cargo test --workspace --exclude lock-fuzz --exclude lock-bench

# format and mend what lints can mend
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --all-features --fix --allow-dirty --allow-staged

# write the golden files of the SQL statements and the requests anew
statements:
    UPDATE_STATEMENTS=1 cargo test -p lock-tests --test codecs

# look for schedules that break a promise, so many times as long as usual
model scale="50":
    LOCK_MODEL_SCALE={{scale}} cargo test --release -p lock-core --test model -- --nocapture

# real clients under faults that a seed draws, each a process, and a checker of what they saw
histories *args:
    tests/histories {{args}}

# run the threads of lock-sync in other orders of their steps, so many times as many as usual
schedules times="20" seed="2":
    tests/schedules {{times}} {{seed}}

# a release's files in target/dist, tested by an install in an empty root and by the quick start there
release *archs:
    tests/release {{archs}}
    tests/release check

# the crates' packages, each built from its package alone
crates:
    tests/release crates

# fuzz a target for some seconds; what it finds interesting is kept only until it ends
fuzz target seconds="60":
    fuzz/run {{seconds}} {{target}}

# fuzz all targets, each for some seconds, and print a row for each
fuzz-all seconds="3600":
    fuzz/run {{seconds}}
