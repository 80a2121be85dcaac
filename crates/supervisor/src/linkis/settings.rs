//! `linkis` of `supervisor.toml`: `false` turns the interface off; a table says which commands run which kind of code,
//! and what the cookies are called, by Linkis's own keys.

use compat_linkis::{Cookies, Format, RunType, RunTypes};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// Whether, and how, clients of Linkis's are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkisSettings {
    pub(crate) is_on: bool,
    pub(crate) run: RunTypes,
    pub(crate) cookies: Cookies,
}

impl Default for LinkisSettings {
    fn default() -> Self {
        Self { is_on: true, run: RunTypes::default(), cookies: Cookies::default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    run: BTreeMap<String, Run>,
    #[serde(rename = "wds.linkis.session.ticket.key")]
    login: String,
    #[serde(rename = "wds.linkis.session.proxy.user.ticket.key")]
    proxy: String,
}

impl Default for Table {
    fn default() -> Self {
        let Cookies { login, proxy } = Cookies::default();
        Self { run: BTreeMap::new(), login, proxy }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// The code is its last argument.
    command: Vec<String>,
    /// `lines` or `csv`.
    #[serde(default)]
    result: Option<String>,
}

impl<'de> Deserialize<'de> for LinkisSettings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Said)
    }
}

struct Said;

impl<'de> Visitor<'de> for Said {
    type Value = LinkisSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a table with `run` and the names of the cookies")
    }

    fn visit_bool<E>(self, is_on: bool) -> Result<LinkisSettings, E> {
        Ok(LinkisSettings { is_on, ..LinkisSettings::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LinkisSettings, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let cookies = Cookies::named(&table.login, &table.proxy).map_err(A::Error::custom)?;
        let run = table.run.into_iter().map(|(word, run)| Ok((word.clone(), run_type(&word, run)?)));
        let run = run.collect::<Result<Vec<_>, String>>().map_err(A::Error::custom)?;
        Ok(LinkisSettings { is_on: true, run: RunTypes::default().with(run), cookies })
    }
}

fn run_type(word: &str, run: Run) -> Result<RunType, String> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if word.is_empty() || word.len() > 32 || !word.bytes().all(is_word) {
        return Err(format!("[linkis.run]: {word:?} is no runType: up to 32 letters, digits and _"));
    }
    if run.command.first().is_none_or(String::is_empty) {
        return Err(format!("[linkis.run]: {word} has no command"));
    }
    let format = run.result.as_deref().map_or(Some(Format::Lines), Format::parse);
    let format = format.ok_or_else(|| format!("[linkis.run]: result of {word} is neither \"lines\" nor \"csv\""))?;
    Ok(RunType { command: run.command, format })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(text: &str) -> Result<LinkisSettings, String> {
        toml::from_str::<Settings>(text).map(|settings| settings.linkis).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn on_unless_it_is_off() {
        assert_eq!(read(""), Ok(LinkisSettings::default()));
        assert!(read("linkis = true").is_ok_and(|linkis| linkis.is_on));
        assert!(read("linkis = false").is_ok_and(|linkis| !linkis.is_on));
        for wrong in ["linkis = 1", "linkis = \"off\"", "linkis = []"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_and_cookies_have_their_own_names() {
        let text = "[linkis]\n\"wds.linkis.session.ticket.key\" = \"a\"\n[linkis.run]\n\
                    sql = { command = [\"sqlite3\", \"-csv\"], result = \"csv\" }\n";
        let linkis = read(text).expect("read");
        assert_eq!((linkis.cookies.login.as_str(), linkis.cookies.proxy), ("a", Cookies::default().proxy));
        let sql = RunType { command: vec!["sqlite3".to_owned(), "-csv".to_owned()], format: Format::Csv };
        assert_eq!(linkis.run.get("sql"), Ok(&sql));
        assert!(linkis.run.get("shell").is_ok(), "the usual ones stay");
        for (text, why) in [
            ("[linkis]\nticket = \"a\"", "unknown field"),
            ("[linkis]\n\"wds.linkis.session.ticket.key\" = \"a;b\"", "name of a cookie"),
            ("[linkis.run]\nsql = { command = [] }", "no command"),
            ("[linkis.run]\nsql = { command = [\"x\"], result = \"xml\" }", "neither"),
            ("[linkis.run]\n\"s ql\" = { command = [\"x\"] }", "no runType"),
        ] {
            let refused = read(text).expect_err(text);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
