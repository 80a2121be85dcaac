//! `users may-act` and `users may-be-acted-as`: the two lists.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Listing;
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target, plain};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Listed {
    name: String,
    allowed: Option<bool>,
    fault: Option<String>,
}

/// Shows the list, or says something of these names: all of them, or the first that can't be.
pub(super) async fn list(which: &str, options: &Listing) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let page = format!("/api/v1/{which}");
    if options.names.is_empty() {
        return shown(which, &client.get(&page).await?, options.common.json);
    }
    let mut answers = Vec::new();
    for name in &options.names {
        let path = format!("{page}/{}", escape(name));
        let answer: Value = match options.forget {
            true => client.delete(&path).await?,
            false => client.put(&path, &json!({ "allowed": !options.no })).await?,
        };
        if !options.common.json {
            out::say(sentence(which, &model::read(&answer)?));
        }
        answers.push(answer);
    }
    if options.common.json {
        out::json(&Value::Array(answers));
    }
    Ok(())
}

fn shown(which: &str, answer: &Value, json: bool) -> Result<(), Failure> {
    if json {
        out::json(answer);
        return Ok(());
    }
    let listed: Vec<Listed> = model::read(answer)?;
    if listed.is_empty() {
        out::note(format!("the list {which} is empty: nobody"));
        return Ok(());
    }
    let rows: Vec<_> = listed.iter().map(row).collect();
    out::say(out::listing(&["NAME", "MAY", "WRONG"], &rows, None, &Target::stdout()));
    Ok(())
}

fn row(listed: &Listed) -> Vec<String> {
    let may = listed.allowed.map_or("-", |allowed| if allowed { "yes" } else { "no" });
    vec![listed.name.clone(), may.into(), listed.fault.clone().unwrap_or_default()]
}

fn sentence(which: &str, listed: &Listed) -> String {
    let (name, what) = (plain(&listed.name), if which == "may-act" { "act as another" } else { "be acted as" });
    match listed.allowed {
        Some(true) => format!("{name} may {what}, by a grant"),
        Some(false) => format!("{name} may not {what}, whatever is granted"),
        None if which == "may-act" => format!("nothing is said of {name} any more: no, unless one of their groups may"),
        None => format!("nothing is said of {name} any more, which is no"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_a_list_says() {
        let listed = |allowed| Listed { name: "a\u{1b}".into(), allowed, fault: None };
        assert_eq!(sentence("may-act", &listed(Some(true))), "a\\u{1b} may act as another, by a grant");
        assert_eq!(
            sentence("may-be-acted-as", &listed(Some(false))),
            "a\\u{1b} may not be acted as, whatever is granted"
        );
        assert!(sentence("may-act", &listed(None)).ends_with("no, unless one of their groups may"));
        assert!(sentence("may-be-acted-as", &listed(None)).ends_with("which is no"));
        assert_eq!(row(&listed(None))[1], "-");
    }
}
