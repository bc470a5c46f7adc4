//! A URL and settings of a configuration, in any order, and what follows from them without I/O.

mod setting;

use crate::Input;
use lock_shared::Config;
use lock_shared::plan::Plan;
use lock_shared::settings::{Codec, Kind};
use setting::Setting;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// A part of every secret.
const SECRET: &str = "hunter2";

/// Makes a configuration of a URL and any settings, in any order. There must be no panic and no secret in a text. Each error is one line.
/// Settings in the URL's parameters must do the same as settings by the methods, and the configuration's place must lead to the same place.
///
/// The first byte chooses the URL, the next bytes are settings; the rest is a URL's text or a path.
pub fn settings(bytes: &[u8]) {
    if bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
        return;
    }
    let mut input = Input(bytes);
    let base = input.byte() % 8;
    let mut settings: Vec<_> = (0..input.byte() % 8).map(|_| Setting::read(&mut input)).collect();
    let rest = String::from_utf8_lossy(input.0);
    let url = match base {
        0 => format!("postgres://app:{SECRET}@db/app"),
        1 => format!("mysql://app:{SECRET}@db/app"),
        2 => "consul://db".to_string(),
        3 => "sqlite:/tmp/locks.db".to_string(),
        4 => format!("postgres://app:{SECRET}@{rest}"),
        5 => rest.to_string(),
        6 => return of_a_file(&rest, &settings),
        _ => return without_a_place(&settings),
    };
    let config = match Config::from_url(&url) {
        Ok(config) => apply(&settings, config),
        Err(error) => return check_error(&error.to_string()),
    };
    check(&config);
    leads_to_itself(&config, &settings, base < 4);
    if base < 4 {
        // Consul's prefix is the path there.
        let prefix = |setting: &Setting| matches!(setting, Setting::Prefix(_));
        if base == 2 && settings.iter().any(prefix) {
            settings.retain(|setting| !prefix(setting));
            return says_the_same(&url, &settings);
        }
        says_the_same(&url, &settings);
    }
}

/// The same settings in the parameters of `url`.
fn says_the_same(url: &str, settings: &[Setting]) {
    let set = apply(settings, Config::from_url(url).expect("it was good before"));
    let parameters: Vec<_> = settings.iter().filter_map(Setting::parameter).collect();
    let url = format!("{url}?{}", parameters.join("&"));
    let names: BTreeSet<_> = parameters.iter().map(|one| one.split('=').next()).collect();
    if names.len() < parameters.len() {
        // A method that is called twice counts the second time.
        let error = Config::from_url(&url).map(drop).expect_err("it is not clear which is meant");
        return check_error(&error.to_string());
    }
    match Config::from_url(&url) {
        Ok(config) => {
            // The others have no parameters.
            let others = settings.iter().filter(|setting| setting.parameter().is_none());
            let config = others.fold(config, |config, setting| setting.apply(config));
            assert_eq!(derived(&config), derived(&set), "{url}");
        }
        Err(error) => {
            check_error(&error.to_string());
            let refused = Plan::at(set).map(drop).err();
            assert!(refused.is_some(), "{url} is refused, the methods are not: {error}");
        }
    }
}

/// The place of a configuration that could be opened names the same place. If its `settings` are all that it has, it
/// has the same codec with them.
fn leads_to_itself(config: &Config, settings: &[Setting], all: bool) {
    let Ok((_, plan)) = Plan::at(config.clone()) else { return };
    let place = config.place();
    let again = match Config::from_url(&place) {
        Ok(again) => again,
        Err(error) => panic!("{place:?}: {error}"),
    };
    assert_eq!(again.place(), place);
    assert_eq!(again.create_table(), config.create_table(), "{place}");
    if all {
        let others = settings.iter().filter(|setting| !setting.is_in_place());
        let again = others.fold(again, |config, setting| setting.apply(config));
        let (_, planned) = Plan::at(again).expect(&place);
        assert_eq!(codec(&planned), codec(&plan), "{place}");
    }
}

/// A file that is named by a path, and by a URL.
fn of_a_file(path: &str, settings: &[Setting]) {
    let config = apply(settings, Config::sqlite(path));
    check(&config);
    if let Ok(named) = Config::from_url(&format!("sqlite:{}", setting::escaped(path)))
        // In a URL, these two slashes do not belong to the path.
        && !path.starts_with("//")
    {
        assert_eq!(derived(&apply(settings, named)), derived(&config), "{path:?}");
        leads_to_itself(&config, settings, true);
    }
}

/// Settings for a connection of the caller's.
fn without_a_place(settings: &[Setting]) {
    let config = apply(settings, Config::new());
    check(&config);
    assert_eq!(config.place(), "");
    for kind in [Kind::Postgres, Kind::Mysql, Kind::Consul, Kind::Sqlite] {
        for plan in [Plan::brought(config.clone(), kind), Plan::supplied(config.clone(), kind)] {
            match plan {
                Ok(plan) => drop(planned(&plan)),
                Err(error) => check_error(&error.to_string()),
            }
        }
    }
}

fn apply(settings: &[Setting], config: Config) -> Config {
    settings.iter().fold(config, |config, setting| setting.apply(config))
}

/// Fails if anything that can be seen of a configuration has a secret in it.
fn check(config: &Config) {
    let errors = [
        config.valid_for().err(),
        config.create_table().err(),
        Plan::at(config.clone()).map(drop).err(),
    ];
    errors.into_iter().flatten().for_each(|error| check_error(&error.to_string()));
    let shown = [config.place(), format!("{config:?}"), config.warning().unwrap_or("").to_string()];
    for text in shown {
        assert!(!text.contains(SECRET), "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    if let Ok((_, plan)) = Plan::at(config.clone()) {
        let holder = plan.holder().unwrap_or_default();
        assert!(!holder.contains(char::is_control) && !holder.contains(SECRET), "{holder:?}");
    }
}

fn check_error(text: &str) {
    assert!(!text.contains(SECRET), "{text}");
    assert!(!text.contains(char::is_control) && text.len() < 2000, "{text:?}");
}

/// All that follows from a configuration.
fn derived(config: &Config) -> Vec<String> {
    let mut all = vec![
        config.place(),
        format!("{config:?}"),
        shown(config.warning()),
        shown(config.valid_for()),
        shown(config.create_table()),
        shown(config.is_relaxed()),
    ];
    match Plan::at(config.clone()) {
        Ok((_, plan)) => all.extend(planned(&plan)),
        Err(error) => all.push(error.to_string()),
    }
    all
}

/// All that follows from a plan, apart from its random numbers.
fn planned(plan: &Plan) -> Vec<String> {
    // Each of them may fail by a panic.
    drop((plan.check(), plan.setup(), plan.engine(None)));
    vec![
        codec(plan),
        shown(plan.timing),
        shown(plan.is_lazy()),
        shown(plan.flow().is_some()),
        shown((plan.ttl(), plan.within())),
        shown((plan.holder(), plan.is_named(), plan.schema())),
        shown(plan.token()),
        shown(&plan.warning),
    ]
}

fn codec(plan: &Plan) -> String {
    match &plan.codec {
        Codec::Table(codec) => shown(codec),
        Codec::Advisory(codec) => shown(codec),
        Codec::Session(codec) => shown(codec),
    }
}

fn shown(value: impl Debug) -> String {
    format!("{value:?}")
}
