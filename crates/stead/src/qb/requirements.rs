//! Qube!'s requirement expressions in Stead's words: `host.os eq linux and not (host.maya lt 2024)` becomes
//! `host.os=linux,host.maya>=2024`.
//!
//! Translated is what a worker *is*. What the farm is doing just now (`host.duty`, `.avail`, `job.*`) is the scheduler's,
//! and is refused by its name.

use crate::failure::Failure;

/// Most parts of what comes out; `or` over `and` multiplies.
const CLAUSES_MAX: usize = 64;

/// All must hold; of each one at least one word.
type Clauses = Vec<Vec<String>>;

pub(super) fn translate(text: &str) -> Result<String, Failure> {
    let words = words(text)?;
    let mut reader = Reader { words: &words, at: 0 };
    let expression = reader.any()?;
    if let Some(word) = reader.peek() {
        return Err(wrong(&format!("{} is not expected there", word.shown())));
    }
    let clauses = clauses(&expression, true)?;
    Ok(clauses.iter().map(|c| c.join("|")).collect::<Vec<_>>().join(","))
}

fn wrong(what: &str) -> Failure {
    Failure::usage(format!("--requirements: {what}"))
}

fn untranslatable(part: &str, why: &str) -> Failure {
    Failure::Usage {
        text: format!("--requirements: {part} can't be translated: {why}"),
        hint: Some(
            "ask for what a worker is: host.os, host.memory, host.processors, host.groups has NAME, host.PROPERTY"
                .into(),
        ),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Text(String),
    Quoted(String),
    Sign(&'static str),
}

impl Word {
    fn shown(&self) -> &str {
        match self {
            Self::Text(t) | Self::Quoted(t) => t,
            Self::Sign(s) => s,
        }
    }

    /// `and` and `&&` are the same.
    fn is(&self, word: &str, sign: &str) -> bool {
        match self {
            Self::Text(t) => t == word,
            Self::Sign(s) => *s == sign,
            Self::Quoted(_) => false,
        }
    }
}

const SIGNS: [&str; 20] =
    ["&&", "||", "==", "!=", "<=", ">=", "<<", ">>", "<", ">", "!", "(", ")", "+", "*", "%", "&", "|", "^", "="];

fn words(text: &str) -> Result<Vec<Word>, Failure> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(quote) = Some(first).filter(|c| ['"', '\''].contains(c)) {
            let (inside, after) =
                rest[1..].split_once(quote).ok_or_else(|| wrong(&format!("{rest} has no end of its quotes")))?;
            words.push(Word::Quoted(inside.into()));
            rest = after;
        } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            words.push(Word::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(wrong(&format!("{first:?} is not understood")));
            }
            words.push(Word::Text(rest[..end].into()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:-".contains(c)
}

#[derive(Debug)]
enum Expression {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Is(Comparison),
}

struct Reader<'a> {
    words: &'a [Word],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    fn takes(&mut self, word: &str, sign: &str) -> bool {
        let found = self.peek().is_some_and(|w| w.is(word, sign));
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Expression, Failure> {
        let mut parts = vec![self.all()?];
        while self.takes("or", "||") {
            parts.push(self.all()?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self) -> Result<Expression, Failure> {
        let mut parts = vec![self.one()?];
        while self.takes("and", "&&") {
            parts.push(self.one()?);
        }
        Ok(Expression::All(parts))
    }

    fn one(&mut self) -> Result<Expression, Failure> {
        if self.at > 1000 {
            return Err(wrong("it is too long"));
        }
        if self.takes("not", "!") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.takes("", "(") {
            let inside = self.any()?;
            if !self.takes("", ")") {
                return Err(wrong("a ( has no )"));
            }
            return Ok(inside);
        }
        self.comparison()
    }

    fn operand(&mut self) -> Result<Word, Failure> {
        let word = self.peek().cloned().ok_or_else(|| wrong("it ends where a name or value is expected"))?;
        self.at += 1;
        match word {
            Word::Sign(sign) => Err(untranslatable(&format!("{sign:?}"), "Stead doesn't calculate")),
            word => Ok(word),
        }
    }

    fn comparison(&mut self) -> Result<Expression, Failure> {
        let left = self.operand()?;
        let Some(how) = self.relation()? else {
            return Comparison::new(&left, How::Eq, &Word::Text("1".into())).map(Expression::Is);
        };
        let right = self.operand()?;
        if right.shown().starts_with("host.") && !left.shown().starts_with("host.") {
            return Comparison::new(&right, how.turned(), &left).map(Expression::Is);
        }
        Comparison::new(&left, how, &right).map(Expression::Is)
    }

    fn relation(&mut self) -> Result<Option<How>, Failure> {
        let Some(word) = self.peek() else { return Ok(None) };
        let how = match word.shown() {
            "eq" | "==" | "=" => How::Eq,
            "ne" | "!=" => How::Ne,
            "lt" | "<" => How::Lt,
            "le" | "<=" => How::Le,
            "gt" | ">" => How::Gt,
            "ge" | ">=" => How::Ge,
            "has" => How::Has,
            "and" | "or" | "&&" | "||" | ")" => return Ok(None),
            other => {
                let other = format!("{other:?}");
                return Err(match word {
                    Word::Sign(_) => untranslatable(&other, "Stead doesn't calculate"),
                    _ if ["min", "max", "in", "mod"].contains(&word.shown()) => {
                        untranslatable(&other, "only eq ne lt le gt ge has, and or not are")
                    }
                    _ => wrong(&format!("{other} is where eq, ne, lt, le, gt, ge or has is expected")),
                });
            }
        };
        self.at += 1;
        Ok(Some(how))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Has,
}

impl How {
    /// With its sides exchanged.
    const fn turned(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            same => same,
        }
    }

    const fn sign(self) -> Option<&'static str> {
        match self {
            Self::Lt => Some("<"),
            Self::Le => Some("<="),
            Self::Gt => Some(">"),
            Self::Ge => Some(">="),
            Self::Eq | Self::Ne | Self::Has => None,
        }
    }
}

/// A word of Stead's, and whether it must hold.
#[derive(Debug)]
struct Comparison {
    word: String,
    holds: bool,
}

impl Comparison {
    fn new(left: &Word, how: How, right: &Word) -> Result<Self, Failure> {
        let Word::Text(name) = left else {
            return Err(untranslatable(
                &format!("{:?}", left.shown()),
                "a comparison begins with a property such as host.os",
            ));
        };
        let value = right.shown();
        if value.is_empty() || !value.chars().all(is_of_word) || value.starts_with("job.") || value.starts_with("host.")
        {
            return Err(untranslatable(&format!("{value:?}"), "a value is letters, digits and _ . - + : /"));
        }
        let Some(property) = name.strip_prefix("host.") else {
            let why = if name.starts_with("job.") {
                "a job is decided on its worker alone"
            } else if name.starts_with("global.") {
                "Stead counts no licences"
            } else {
                "only host.* is known"
            };
            return Err(untranslatable(name, why));
        };
        Self::of_host(property, how, value)
    }

    fn of_host(property: &str, how: How, value: &str) -> Result<Self, Failure> {
        let whole = format!("host.{property}");
        let property = property.strip_suffix(".total").unwrap_or(property);
        if property.contains('.') || property == "state" || property == "flags" {
            return Err(untranslatable(&whole, "what a worker is doing just now is the scheduler's to know"));
        }
        let word = match (property, how) {
            ("groups", How::Has) => format!("group:{value}"),
            ("groups", _) => return Err(untranslatable(&whole, "write host.groups has NAME")),
            (_, How::Has) => return Err(untranslatable(&format!("{whole} has"), "only host.groups is a list")),
            ("cluster", How::Eq | How::Ne) => format!("cluster:{value}"),
            ("screen", How::Eq | How::Ne) => {
                let is_there = match value {
                    "1" | "true" | "yes" => true,
                    "0" | "false" | "no" => false,
                    _ => return Err(untranslatable(value, "host.screen is 1 or 0")),
                };
                return Ok(Self { word: "host.screen=1".into(), holds: is_there == (how == How::Eq) });
            }
            (_, How::Eq | How::Ne) => format!("host.{property}={value}"),
            (_, ordered) => {
                if value.parse::<f64>().is_err() {
                    return Err(untranslatable(value, "only numbers are more or less than others"));
                }
                format!("host.{property}{}{value}", ordered.sign().unwrap_or_default())
            }
        };
        check_mode(property, value)?;
        Ok(Self { word, holds: how != How::Ne })
    }
}

/// Qube! documents no words for these; a word that never holds would wait for ever.
fn check_mode(property: &str, value: &str) -> Result<(), Failure> {
    let known: &[&str] = match property {
        "worker_mode" => &["service", "desktop"],
        "proxy_mode" => &["user", "proxy"],
        _ => return Ok(()),
    };
    if known.contains(&value) {
        return Ok(());
    }
    Err(wrong(&format!("host.{property} is {}, not {value:?}", known.join(" or "))))
}

/// As what must hold all at once; `holds` turns around under a `not`.
fn clauses(expression: &Expression, holds: bool) -> Result<Clauses, Failure> {
    let found = match (expression, holds) {
        (Expression::Not(inside), _) => clauses(inside, !holds)?,
        (Expression::Is(c), _) => {
            let sign = if c.holds == holds { "" } else { "!" };
            vec![vec![format!("{sign}{}", c.word)]]
        }
        (Expression::All(parts), true) | (Expression::Any(parts), false) => {
            let mut all = Clauses::new();
            for part in parts {
                all.extend(clauses(part, holds)?);
            }
            all
        }
        (Expression::Any(parts), true) | (Expression::All(parts), false) => {
            let mut one_of: Clauses = vec![Vec::new()];
            for part in parts {
                let part = clauses(part, holds)?;
                let pairs = one_of.iter().flat_map(|a| part.iter().map(move |b| [a.as_slice(), b.as_slice()].concat()));
                one_of = pairs.collect();
                check_size(&one_of)?;
            }
            one_of
        }
    };
    check_size(&found)?;
    Ok(found)
}

fn check_size(clauses: &Clauses) -> Result<(), Failure> {
    if clauses.len() <= CLAUSES_MAX {
        return Ok(());
    }
    Err(wrong("it has too many combinations of and within or (submit several jobs, or write it the other way round)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_said_is_said_in_steads_words() {
        for (qube, stead) in [
            ("host.os eq linux", "host.os=linux"),
            ("host.os == \"linux\"", "host.os=linux"),
            ("host.os eq linux and host.memory ge 4096", "host.os=linux,host.memory>=4096"),
            ("host.os eq linux or host.os eq osx", "host.os=linux|host.os=osx"),
            ("not (host.os eq winnt)", "!host.os=winnt"),
            ("host.os ne winnt", "!host.os=winnt"),
            ("not (host.os ne winnt)", "host.os=winnt"),
            ("not (host.a eq 1 and host.b eq 2)", "!host.a=1|!host.b=2"),
            ("not (host.a eq 1 or host.b eq 2)", "!host.a=1,!host.b=2"),
            ("(host.a eq 1 and host.b eq 2) or host.c eq 3", "host.a=1|host.c=3,host.b=2|host.c=3"),
            ("host.screen", "host.screen=1"),
            ("not host.screen", "!host.screen=1"),
            ("host.screen eq 0", "!host.screen=1"),
            ("host.worker_mode eq desktop", "host.worker_mode=desktop"),
            ("host.proxy_mode eq 'user' && host.processors.total > 7", "host.proxy_mode=user,host.processors>7"),
            ("8 <= host.processors", "host.processors>=8"),
            ("host.groups has gpu", "group:gpu"),
            ("host.cluster eq /film/hi", "cluster:/film/hi"),
            ("host.name ne lin-07", "!host.name=lin-07"),
        ] {
            assert_eq!(translate(qube).expect(qube), stead, "{qube}");
            job::Requires::parse(stead).expect(stead);
        }
    }

    #[test]
    fn what_can_not_is_named() {
        for (qube, part) in [
            ("host.os eq linux and not (job.id in host.duty.id)", "\"in\" can't be translated"),
            ("host.processors.avail ge 2", "host.processors.avail can't be translated"),
            ("job.user eq ada", "job.user can't be translated"),
            ("global.maya ge 1", "global.maya can't be translated"),
            ("host.memory * 2 ge 4", "\"*\" can't be translated"),
            ("host.os lt linux", "linux can't be translated"),
            ("host.proxy_mode eq proxymode", "host.proxy_mode is user or proxy"),
            ("host.worker_mode eq du", "host.worker_mode is service or desktop"),
            ("host.maya has 2024", "host.maya has can't be translated"),
            ("(host.os eq linux", "a ( has no )"),
            ("host.os eq", "it ends where"),
            ("host.os eq linux )", ") is not expected"),
            ("host.os linux", "\"linux\" is where eq"),
            ("host.a eq \"x", "no end of its quotes"),
            ("host.a eq \"x y\"", "\"x y\" can't be translated"),
            ("", "it ends where"),
        ] {
            let failure = translate(qube).expect_err(qube);
            assert_eq!(failure.exit(), 2);
            assert!(failure.to_string().contains(part), "{qube}: {failure}");
        }
        let many: Vec<String> = (0..8).map(|n| format!("(host.a{n} eq 1 and host.b{n} eq 1)")).collect();
        assert!(translate(&many.join(" or ")).expect_err("256 parts").to_string().contains("combinations"));
    }
}
