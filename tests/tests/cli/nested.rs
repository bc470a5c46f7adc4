//! A `withlock` in the command of another one: it keeps its locks in the same place, or refuses.

use lock_tests::place::{Place, postgres_url};
use lock_tests::withlock::{Ended, Sandbox, binary, copy_binary, eventually};
use rustix::process::Signal;
use std::fs::{create_dir_all, write};
use std::process::Command;

/// The names in a file's table.
fn names(sandbox: &Sandbox, file: &str, table: &str) -> Vec<String> {
    if !sandbox.path(file).exists() {
        return Vec::new();
    }
    let file = rusqlite::Connection::open(sandbox.path(file)).expect("opened");
    let mut query = file.prepare(&format!("SELECT name FROM {table} ORDER BY name")).expect(table);
    let names = query.query_map([], |row| row.get(0)).expect("asked");
    names.map(|name| name.expect("a name")).collect()
}

const OWN: &str = "state/withlock/locks.db";

/// Runs a shell script under the lock `outer`, with the locks where `prepare` says.
fn outer(sandbox: &Sandbox, prepare: impl Fn(&mut Command), args: &[&str], script: &str) -> Ended {
    let mut command = sandbox.command(binary());
    prepare(command.args(args).args(["outer", "--", "sh", "-c", script]));
    sandbox.start(&mut command).end()
}

/// Takes a lock in a lock, and one in that, from another folder.
const NESTED: &str =
    r#"cd /; "$W" -v inner -- "$W" innermost -- sh -c '"$W" --status -q outer; echo $?'"#;

#[test]
fn it_uses_the_same_place_whatever_named_it() {
    type Prepare<'a> = &'a dyn Fn(&Sandbox, &mut Command);
    let file = |name: &'static str, text: &'static str| {
        move |sandbox: &Sandbox| {
            let path = sandbox.path(name);
            create_dir_all(path.parent().expect("a folder")).expect("made");
            write(&path, text.replace("DIR", &sandbox.path("").display().to_string()))
                .expect("written");
            path
        }
    };
    let secret = file("secrets/url", "sqlite:DIR/a.db\n");
    let credential = file("cred/withlock-url", "sqlite:DIR/a.db\n");
    let config = file("config/withlock/url", "\n  sqlite:DIR/a.db  \n");
    let cases: [(&str, &[&str], Prepare); 10] = [
        ("a.db", &[], &|_, command| {
            command.env("WITHLOCK_URL", "sqlite:a.db");
        }),
        ("a.db", &["--db", "sqlite:a.db?label=x"], &|_, _| {}),
        ("a.db", &["--db", "sqlite://a.db"], &|_, _| {}),
        ("a.db", &["--db", "sqlite:./b/../a.db"], &|sandbox, command| {
            create_dir_all(sandbox.path("b")).expect("made");
            command.env("WITHLOCK_URL_FILE", "nowhere");
        }),
        ("a.db", &[], &|sandbox, command| {
            command.env("WITHLOCK_URL_FILE", secret(sandbox));
        }),
        ("a.db", &[], &|sandbox, command| {
            let folder = credential(sandbox).parent().expect("a folder").to_path_buf();
            command.env("CREDENTIALS_DIRECTORY", folder);
        }),
        ("a.db", &[], &|sandbox, _| drop(config(sandbox))),
        ("a.db", &[], &|_, command| {
            command.env("PG_CONNECTION_STRING", "sqlite:a.db\n");
        }),
        ("a.db", &["--db", " sqlite:a.db\n"], &|_, command| {
            command.env("PG_CONNECTION_STRING", "sqlite:b.db");
        }),
        (OWN, &[], &|_, _| {}),
    ];
    for (number, (file, args, prepare)) in cases.into_iter().enumerate() {
        let sandbox = Sandbox::new();
        let ended = outer(&sandbox, |command| prepare(&sandbox, command), args, NESTED).expect(0);
        assert_eq!(ended.stdout, "75\n", "{number}: {ended:?}");
        let found = names(&sandbox, file, "locks");
        assert_eq!(found, ["inner", "innermost", "outer"], "{number}: {ended:?}");
        let place = format!("at sqlite:{}", sandbox.path(file).display());
        assert!(ended.stderr.contains(&place) || args.len() == 2, "{number}: {ended:?}");
        assert_eq!(sandbox.path(OWN).exists(), file == OWN, "{number}");
    }
}

#[test]
fn the_table_belongs_to_the_place() {
    for url in ["sqlite:a.db?ttl=20s", "sqlite:a.db?table=of_the_url"] {
        let sandbox = Sandbox::new();
        let args = ["--db", url, "--table", "jobs"];
        let script = format!("{NESTED}; \"$W\" --table other elsewhere -- true");
        let ended = outer(&sandbox, |_| {}, &args, &script).expect(0);
        assert_eq!(ended.stdout, "75\n", "{ended:?}");
        assert_eq!(names(&sandbox, "a.db", "jobs"), ["inner", "innermost", "outer"]);
        assert_eq!(names(&sandbox, "a.db", "other"), ["elsewhere"]);
    }
}

/// As the table.
#[test]
#[ignore = "needs a PostgreSQL server: tests/run starts one"]
fn the_protocol_belongs_to_the_place() {
    let sandbox = Sandbox::new();
    let url = postgres_url();
    let args = ["--db", &url, "--protocol", "advisory"];
    let name = Place::postgres().table().to_string();
    let script = format!("\"$W\" -v {name} -- \"$W\" -n {name} -- true");
    let ended = outer(&sandbox, |_| {}, &args, &script).expect(75);
    assert!(ended.stderr.contains("protocol=advisory"), "{ended:?}");
}

#[test]
fn looking_and_breaking_inside_are_about_the_same_place() {
    let sandbox = Sandbox::new();
    let script = r#"cd /; "$W" --list --json | grep -c '"name":"outer"'; "$W" --purge; "$W" --break --yes outer"#;
    let ended = outer(&sandbox, |_| {}, &["--db", "sqlite:a.db", "--ttl", "6s"], script);
    assert!(ended.stdout.starts_with("1\n"), "{ended:?}");
    assert!(ended.stderr.contains("took \"outer\" from its holder"), "{ended:?}");
    assert!(!sandbox.path(OWN).exists(), "{ended:?}");
}

#[test]
fn another_place_is_used_if_that_is_what_it_is_told() {
    let sandbox = Sandbox::new();
    let script = r#""$W" --db sqlite:b.db b -- true; WITHLOCK_URL=sqlite:c.db "$W" c -- true;
        echo sqlite:d.db >url; WITHLOCK_URL_FILE=url "$W" d -- true"#;
    outer(&sandbox, |_| {}, &["--db", "sqlite:a.db"], script).expect(0);
    for (file, name) in [("a.db", "outer"), ("b.db", "b"), ("c.db", "c"), ("d.db", "d")] {
        assert_eq!(names(&sandbox, file, "locks"), [name]);
    }
}

#[test]
fn who_waits_for_its_own_end_is_told_so() {
    const TOLD: &str = "withlock: this is a command of a withlock that holds \"outer\", and so waits for its own end\n";
    for (script, code, told) in [
        (r#""$W" --wait 1s outer -- true"#, 124, 1),
        (r#""$W" -n outer -- true"#, 75, 0),
        (r#""$W" -q --wait 1s outer -- true"#, 124, 0),
        (r#""$W" --wait 1s inner -- true"#, 0, 0),
        (r#""$W" --db sqlite:b.db --wait 1s outer -- true"#, 0, 0),
        (r#""$W" inner -- "$W" --wait 1s outer -- true"#, 124, 1),
        (r#""$W" --db sqlite:b.db inner -- "$W" --db sqlite:a.db --wait 1s outer -- true"#, 124, 1),
        (r#""$W" --permits 2 inner -- "$W" --wait 1s outer -- true"#, 124, 1),
    ] {
        let sandbox = Sandbox::new();
        let ended = outer(&sandbox, |_| {}, &["--db", "sqlite:a.db"], script).expect(code);
        assert_eq!(ended.stderr.matches(TOLD).count(), told, "{script}: {ended:?}");
    }
}

/// The lock that it waits for has the same name.
#[test]
fn who_waits_at_another_place_does_not_wait_for_its_own_end() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold("sqlite:b.db", &["outer"], "exec sleep 600");
    let script = r#""$W" --db sqlite:b.db --wait 1s outer -- true"#;
    let ended = outer(&sandbox, |_| {}, &["--db", "sqlite:a.db"], script).expect(124);
    assert!(!ended.stderr.contains("its own end"), "{ended:?}");
}

/// As `sudo` does it, or a job's runner. That it is inside another is seen all the same.
#[test]
fn without_its_environment_it_refuses_and_never_becomes_local() {
    let sandbox = Sandbox::new();
    for args in [&["--db", "sqlite:a.db"][..], &[]] {
        // The guardian, which is the shell's parent, has the outer one's number in its command line.
        let script = r#"tr '\0' '\n' <"/proc/$PPID/cmdline" | sed -n 3p
            env -i HOME="$HOME" PATH="$PATH" sh -c '"$0" inner -- touch ran; echo $?' "$W""#;
        let ended = outer(&sandbox, |_| {}, args, script).expect(0);
        let (process, code) = ended.stdout.split_once('\n').expect("two lines");
        assert_eq!(code, "125\n", "{ended:?}");
        let says = format!("outer withlock (process {process}), but");
        let told = ended.stderr.contains(&says) && ended.stderr.contains("dropped the variables");
        assert!(told, "{ended:?}");
        assert!(!sandbox.path("ran").exists() && !sandbox.path("home").exists(), "{ended:?}");
        // Told where, it works.
        let script = r#"env -i PATH="$PATH" "$W" --db sqlite:b.db inner -- true"#;
        outer(&sandbox, |_| {}, args, script).expect(0);
    }
}

/// Nobody but this user, and root, may ask the outer one for its URL.
#[test]
fn another_user_is_refused() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let copy = std::env::temp_dir().join(format!("withlock-nested-{}", std::process::id()));
    copy_binary(&copy);
    let script = format!(
        "setpriv --reuid 65534 --clear-groups sh -c 'cd /; {} inner -- touch ran; echo $?; cat $WITHLOCK_URL_FILE'",
        copy.display()
    );
    let args = ["--db", "sqlite:a.db?label=hunter3"];
    let ended = outer(&sandbox, |_| {}, &args, &script);
    std::fs::remove_file(copy).expect("removed");
    assert_eq!(ended.stdout, "125\n", "{ended:?}");
    assert!(ended.stderr.contains("belongs to another user"), "{ended:?}");
    assert!(ended.stderr.contains("Permission denied"), "{ended:?}");
}

#[test]
fn what_outlives_the_outer_one_refuses() {
    let sandbox = Sandbox::new();
    let script = r#"(until [ -e go ]; do sleep 0.02; done; "$W" inner -- touch ran 2>told; echo $? >code) &"#;
    outer(&sandbox, |_| {}, &["--db", "sqlite:a.db"], script).expect(0);
    write(sandbox.path("go"), "").expect("written");
    eventually("it ends", || sandbox.read("code").ends_with('\n'));
    assert_eq!(sandbox.read("code"), "125\n");
    assert!(sandbox.read("told").contains("it has ended"), "{}", sandbox.read("told"));
    assert!(!sandbox.path("ran").exists() && !sandbox.path(OWN).exists());
}

/// A process id is used again after a while, and the number of a file at once.
#[test]
fn the_file_of_another_withlock_is_not_taken_for_the_outer_ones() {
    let sandbox = Sandbox::new();
    let script = "echo $WITHLOCK_URL_FILE >file; while [ ! -e go ]; do sleep 0.02; done";
    let other = sandbox.hold("sqlite:other.db", &["n"], script);
    eventually("it says its file", || sandbox.read("file").ends_with('\n'));
    for place in [Some("sqlite:/elsewhere/a.db"), None] {
        let mut command = sandbox.command(binary());
        command.env("WITHLOCK_URL_FILE", sandbox.read("file").trim());
        if let Some(place) = place {
            command.env("WITHLOCK_PLACE", place);
        }
        let ended = sandbox.start(command.args(["inner", "--", "touch", "ran"])).end().expect(125);
        assert!(ended.stderr.contains("does not say where"), "{ended:?}");
        assert!(!sandbox.path("ran").exists());
    }
    write(sandbox.path("go"), "").expect("written");
    other.end().expect(0);
}

/// Though it has the same text: some other program has it open.
#[test]
fn a_file_that_is_no_withlocks_is_not_taken_for_the_outer_ones() {
    let sandbox = Sandbox::new();
    write(sandbox.path("url"), "sqlite:/elsewhere/a.db").expect("written");
    let script = "exec 7<url; export WITHLOCK_URL_FILE=/proc/$$/fd/7; \"$W\" inner -- touch ran";
    let mut command = sandbox.command("sh");
    command.args(["-c", script]).env("WITHLOCK_PLACE", "sqlite:/elsewhere/a.db");
    let ended = sandbox.start(command.env("W", binary())).end().expect(125);
    assert!(ended.stderr.contains("does not say where"), "{ended:?}");
    assert!(!sandbox.path("ran").exists());
}

/// A pipe of withlock's that the command kept open would outlive withlock.
#[test]
fn the_command_has_the_files_that_withlock_was_given() {
    let sandbox = Sandbox::new();
    let files = "exec ls /proc/self/fd";
    let plain = sandbox.start(sandbox.command("sh").args(["-c", files])).end().expect(0);
    let ended = outer(&sandbox, |_| {}, &["--db", "sqlite:a.db"], files).expect(0);
    assert_eq!(ended.stdout, plain.stdout);
}

/// Neither in the environment nor in a file that the command has open.
#[test]
fn the_command_has_no_url_with_a_secret_in_it() {
    let sandbox = Sandbox::new();
    let script = r#"env >env; ls -l /proc/self/fd >files; tr '\0' '\n' </proc/$$/cmdline >line;
        cat "$WITHLOCK_URL_FILE" >url"#;
    let set = |command: &mut Command| {
        command.env("WITHLOCK_URL", "sqlite:a.db?label=hunter3");
    };
    let ended = outer(&sandbox, set, &["-v"], script).expect(0);
    for shown in [sandbox.read("env"), sandbox.read("files"), sandbox.read("line"), ended.stderr] {
        assert!(!shown.contains("hunter3") && !shown.contains("memfd"), "{shown}");
    }
    let place = format!("sqlite:{}", sandbox.path("a.db").display());
    assert!(sandbox.read("env").contains(&format!("WITHLOCK_PLACE={place}\n")));
    // It is there for those who may know it.
    assert_eq!(sandbox.read("url"), format!("{place}?label=hunter3"));
}

// Sources.

#[test]
fn an_empty_source_is_an_error_and_never_a_local_lock() {
    let sandbox = Sandbox::new();
    write(sandbox.path("blank"), " \n").expect("written");
    for (variable, value, says) in [
        ("WITHLOCK_URL", "", "WITHLOCK_URL is empty"),
        ("WITHLOCK_URL", " \n", "WITHLOCK_URL is empty"),
        ("WITHLOCK_URL_FILE", "", "WITHLOCK_URL_FILE is empty"),
        ("WITHLOCK_URL_FILE", "blank", "blank is empty"),
        ("WITHLOCK_URL_FILE", "nowhere", "nowhere, which does not exist"),
        ("WITHLOCK_URL_FILE", ".", "directory"),
        ("PG_CONNECTION_STRING", "", "PG_CONNECTION_STRING is empty"),
    ] {
        for args in [&["n", "--", "touch", "ran"][..], &["--list"], &["--status", "n"], &["--ddl"]]
        {
            let mut command = sandbox.command(binary());
            let ended = sandbox.start(command.env(variable, value).args(args)).end().expect(125);
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
            assert!(ended.stderr.contains(says), "{variable}={value:?}: {ended:?}");
        }
    }
    assert!(!sandbox.path("ran").exists() && !sandbox.path("state").exists());
}

/// It may be a pipe from a program that asks a person for a password. That nobody writes to it yet is told.
#[test]
fn a_source_to_which_nobody_writes_is_told_and_waited_for() {
    let sandbox = Sandbox::new();
    let made = sandbox.command("mkfifo").arg("url").status().expect("coreutils");
    assert!(made.success());
    let start = || {
        let mut command = sandbox.withlock("", &["-n", "n", "--", "touch", "ran"]);
        let run = sandbox.start(command.env("WITHLOCK_URL_FILE", "url"));
        let told = "withlock: waiting for somebody to write a URL to url\n";
        eventually("it is told", || run.output()[1] == told);
        run
    };
    let run = start();
    run.signal(Signal::TERM);
    run.end().expect(143);
    let run = start();
    write(sandbox.path("url"), sandbox.url()).expect("written");
    run.end().expect(0);
    assert_eq!(names(&sandbox, "locks.db", "locks"), ["n"]);
}

/// Cron has no environment to speak of; the file says where, and ends in a newline.
#[test]
fn cron_finds_the_users_file() {
    let sandbox = Sandbox::new();
    let url = format!("{}\n", sandbox.url());
    create_dir_all(sandbox.path("home/.config/withlock")).expect("made");
    write(sandbox.path("home/.config/withlock/url"), url).expect("written");
    let script = r#"exec env -i HOME="$HOME" PATH=/usr/bin:/bin "$W" -v n -- true"#;
    let ended = sandbox.start(sandbox.command("sh").args(["-c", script])).end().expect(0);
    assert!(ended.stderr.contains(&format!("at {}\n", sandbox.url())), "{ended:?}");
    assert_eq!(names(&sandbox, "locks.db", "locks"), ["n"]);
}

#[test]
fn who_waits_is_told_where() {
    let sandbox = Sandbox::new();
    let _holder = sandbox.hold("", &["n"], "exec sleep 600");
    let ended = sandbox.run("", &["-v", "-w", "300ms", "n", "--", "true"]).expect(124);
    let place = format!(" at sqlite:{}\n", sandbox.path(OWN).display());
    assert!(
        ended.stderr.contains("waiting for \"n\"") && ended.stderr.contains(&place),
        "{ended:?}"
    );
}

/// sudo drops variables and changes the home. So it is no surprise that locks are then elsewhere.
#[test]
fn behind_sudo_this_users_own_file_is_told() {
    let sandbox = Sandbox::new();
    let run = |url: &str, uid: u32, args: &[&str]| {
        let mut command = sandbox.withlock(url, args);
        command.env("SUDO_UID", uid.to_string()).env("SUDO_USER", "alice");
        sandbox.start(&mut command).end().expect(0).stderr
    };
    let own = rustix::process::getuid().as_raw();
    let args = ["n", "--", "true"];
    let told = run("", own + 1, &args);
    assert!(told.contains("which alice's commands do not use"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_eq!(run("", own, &args), "");
    assert_eq!(run("", own + 1, &["-q", "n", "--", "true"]), "");
    assert_eq!(run(&sandbox.url(), own + 1, &args), "");
}

/// A variable's name is mistyped as easily as an option.
#[test]
fn a_variable_that_names_no_place_is_told() {
    let sandbox = Sandbox::new();
    let run = |url: &str, variable: &str, args: &[&str]| {
        let mut command = sandbox.withlock(url, args);
        command.env(variable, "postgres://app:hunter2@db/jobs");
        sandbox.start(&mut command).end().expect(0).stderr
    };
    let args = ["n", "--", "true"];
    for variable in ["WITHLOCK_DB", "WITHLOCK_URI"] {
        let told = run("", variable, &args);
        let reason = format!(
            "; {variable} means nothing to withlock: name a place with --db or WITHLOCK_URL\n"
        );
        assert!(told.ends_with(&reason) && told.lines().count() == 1, "{told}");
        assert_eq!(run("", variable, &["-q", "n", "--", "true"]), "");
        assert_eq!(run(&sandbox.url(), variable, &args), "");
    }
    for known in ["WITHLOCK_NAME", "WITHLOCK_FENCE", "WITHLOCK_PERMIT", "WITHLOCKS"] {
        assert_eq!(run("", known, &args), "", "{known}");
    }
}
