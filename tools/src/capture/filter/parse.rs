//! Reading a filter.

use std::iter::Peekable;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::vec;

use wirepath_driver::capture::Direction;
use wirepath_stack::Cidr;

use super::super::packet::Protocol;
use super::Test;

/// Characters of a filter at most, and brackets and `not`s in each other: both
/// bound what judging a frame costs.
const MOST_CHARS: usize = 4096;
const DEEPEST: usize = 64;

/// What is wrong with a filter, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {what}")]
pub struct FilterError {
    /// From 1.
    pub column: usize,
    /// What is wrong, and what may stand there.
    pub what: String,
}

const TESTS: &str = "host, net, port, flow, fd, route, status, in, out, tcp, udp, icmp or arp";

/// A word of a filter, and the column that it begins in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    column: usize,
    text: String,
    /// It stood in quotes, and so is no keyword.
    is_quoted: bool,
}

impl Token {
    fn is(&self, words: &[&str]) -> bool {
        !self.is_quoted && words.contains(&self.text.as_str())
    }
}

/// The words of a filter.
fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > MOST_CHARS {
        return Err(FilterError {
            column: MOST_CHARS + 1,
            what: format!("a filter has {MOST_CHARS} characters at most"),
        });
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let rest = &chars[at..];
        let (len, text) = match c {
            _ if c.is_whitespace() => {
                at += 1;
                continue;
            }
            '(' | ')' | '!' => (1, c.to_string()),
            '&' | '|' if rest.get(1) == Some(&c) => (2, format!("{c}{c}")),
            '"' => quoted(rest).ok_or_else(|| FilterError {
                column: at + 1,
                what: "these quotes do not end; write \" at the end of the word".into(),
            })?,
            _ => word(rest),
        };
        tokens.push(Token {
            column: at + 1,
            text,
            is_quoted: c == '"',
        });
        at += len;
    }
    Ok(tokens)
}

/// What is in the quotes at the beginning, and how many characters they take.
fn quoted(chars: &[char]) -> Option<(usize, String)> {
    let len = chars[1..].iter().position(|c| *c == '"')?;
    Some((len + 2, chars[1..=len].iter().collect()))
}

fn word(chars: &[char]) -> (usize, String) {
    let ends = |c: &char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '!');
    let len = chars.iter().position(ends).unwrap_or(chars.len());
    (len, chars[..len].iter().collect())
}

/// Reads a filter.
pub(super) fn parse(text: &str) -> Result<Test, FilterError> {
    let mut parser = Parser {
        tokens: tokens(text)?.into_iter().peekable(),
        end: text.chars().count() + 1,
        depth: 0,
    };
    let test = parser.expression()?;
    match parser.tokens.next() {
        None => Ok(test),
        Some(token) => Err(FilterError {
            column: token.column,
            what: format!(
                "«{}» cannot stand here; join tests with and, or",
                token.text
            ),
        }),
    }
}

struct Parser {
    tokens: Peekable<vec::IntoIter<Token>>,
    /// The column behind the last.
    end: usize,
    depth: usize,
}

impl Parser {
    fn takes(&mut self, words: &[&str]) -> bool {
        self.tokens.next_if(|token| token.is(words)).is_some()
    }

    fn expression(&mut self) -> Result<Test, FilterError> {
        let mut test = self.term()?;
        while self.takes(&["or", "||"]) {
            test = Test::Or(Box::new(test), Box::new(self.term()?));
        }
        Ok(test)
    }

    fn term(&mut self) -> Result<Test, FilterError> {
        let mut test = self.factor()?;
        while self.takes(&["and", "&&"]) {
            test = Test::And(Box::new(test), Box::new(self.factor()?));
        }
        Ok(test)
    }

    fn factor(&mut self) -> Result<Test, FilterError> {
        let token = self.next(TESTS)?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(FilterError {
                column: token.column,
                what: format!("brackets and nots are {DEEPEST} deep at most"),
            });
        }
        let test = if token.is(&["not", "!"]) {
            Test::Not(Box::new(self.factor()?))
        } else if token.is(&["("]) {
            let test = self.expression()?;
            self.close(&token)?;
            test
        } else {
            self.test(&token)?
        };
        self.depth -= 1;
        Ok(test)
    }

    fn close(&mut self, open: &Token) -> Result<(), FilterError> {
        if self.takes(&[")"]) {
            return Ok(());
        }
        let column = self.tokens.peek().map_or(self.end, |token| token.column);
        Err(FilterError {
            column,
            what: format!("a ) is missing for the ( in column {}", open.column),
        })
    }

    fn next(&mut self, wanted: &str) -> Result<Token, FilterError> {
        self.tokens.next().ok_or_else(|| FilterError {
            column: self.end,
            what: format!("the filter ends here, where there should be {wanted}"),
        })
    }

    fn test(&mut self, token: &Token) -> Result<Test, FilterError> {
        let keyword = if token.is_quoted { "" } else { &token.text };
        Ok(match keyword {
            "in" => Test::Direction(Direction::In),
            "out" => Test::Direction(Direction::Out),
            "tcp" => Test::Protocol(Protocol::Tcp),
            "udp" => Test::Protocol(Protocol::Udp),
            "icmp" => Test::Protocol(Protocol::Icmp),
            "arp" => Test::Protocol(Protocol::Arp),
            "host" => Test::Host(self.value::<IpAddr>("an address as 10.0.0.1")?),
            "net" => Test::Net(self.value::<Cidr>("a network as 10.0.0.0/24")?),
            "flow" => {
                Test::Flow(self.value::<SocketAddr>("an address and a port as 10.0.0.1:50000")?)
            }
            "fd" => Test::Fd(self.value::<u32>("a descriptor's number as 3")?),
            "port" => Test::Port(self.with("a port as 80, or 8000-8010", range)?),
            "status" => Test::Status(self.with("a status as 404, 5xx or 500-503", statuses)?),
            "route" => Test::Route(self.next("a pattern as /users/{id}")?.text),
            _ => {
                return Err(FilterError {
                    column: token.column,
                    what: format!("«{}» is no test; write {TESTS}", token.text),
                });
            }
        })
    }

    fn value<T: FromStr>(&mut self, wanted: &str) -> Result<T, FilterError> {
        self.with(wanted, |text| text.parse().ok())
    }

    fn with<T>(
        &mut self,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, FilterError> {
        let token = self.next(wanted)?;
        read(&token.text).ok_or_else(|| FilterError {
            column: token.column,
            what: format!("«{}» should be {wanted}", token.text),
        })
    }
}

/// `80`, or `80-90`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// `404`, `5xx`, or `500-503`.
fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let class = text.strip_suffix("xx").and_then(|class| class.parse().ok());
    let statuses = match class {
        Some(class @ 1..=9u16) => class * 100..=class * 100 + 99,
        _ => range(text)?,
    };
    (100..=999).contains(statuses.start()).then_some(statuses)
}
