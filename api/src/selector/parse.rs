//! Reading the text form of label selectors. Not of field selectors, whose grammar differs.
//! Invariant: every refusal names what was found and what was expected, as upstream does.

use super::SelectorError;
use super::labels::{Operator, Requirement};

/// Texts longer than this are refused: a selector comes from a URL, which is no longer either.
const TEXT_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Word(&'a str),
    /// One of `! ( ) , = == != > <`.
    Sign(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Token::End => "",
            Token::Word(text) | Token::Sign(text) => text,
        }
    }

    fn is(self, sign: &str) -> bool {
        matches!(self, Token::Sign(found) if found == sign)
    }

    /// `in` and `notin` are words only where an operator is due.
    fn is_word(self) -> bool {
        matches!(self, Token::Word(_))
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let special = |c: char| "!(),=><".contains(c);
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '=' if rest.starts_with("==") => 2,
            '!' if rest.starts_with("!=") => 2,
            c if special(c) => 1,
            _ => rest
                .find(|c: char| special(c) || c.is_whitespace())
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        out.push(if special(first) {
            Token::Sign(token)
        } else {
            Token::Word(token)
        });
        rest = after.trim_start();
    }
    out.push(Token::End);
    out
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    if text.len() > TEXT_MAX {
        return Err(SelectorError(format!(
            "a label selector may not be longer than {TEXT_MAX} bytes"
        )));
    }
    let mut parser = Parser {
        tokens: tokens(text),
        at: 0,
    };
    let mut out = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(out),
            token if token.is_word() || token.is("!") => {
                let requirement = parser.requirement();
                out.push(requirement.map_err(|error| {
                    SelectorError(format!("unable to parse requirement: {error}"))
                })?);
            }
            token => return found(token, "', expected: !, identifier, or 'end of string'"),
        }
        match parser.next() {
            Token::End => return Ok(out),
            token if token.is(",") => {
                let next = parser.peek();
                if !next.is_word() && !next.is("!") {
                    return found(next, "', expected: identifier after ','");
                }
            }
            token => return found(token, "', expected: ',' or 'end of string'"),
        }
    }
}

fn found<T>(token: Token<'_>, rest: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{}{rest}", token.text())))
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.peek().is("!");
        if negated {
            self.next();
        }
        let token = self.next();
        let Token::Word(key) = token else {
            return found(token, "', expected: identifier");
        };
        let next = self.peek();
        if negated || next == Token::End || next.is(",") {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return Requirement::new(key, operator, Vec::new());
        }
        // A key is checked before its operator is looked at.
        Requirement::new(key, Operator::Exists, Vec::new())?;
        let operator = self.next();
        match operator.text() {
            "in" => Requirement::new(key, Operator::In, self.value_set()?),
            "notin" => Requirement::new(key, Operator::NotIn, self.value_set()?),
            "=" | "==" => Requirement::new(key, Operator::Equals, vec![self.exact_value()?]),
            "!=" => Requirement::new(key, Operator::NotEquals, vec![self.exact_value()?]),
            ">" => Requirement::new(key, Operator::GreaterThan, vec![self.exact_value()?]),
            "<" => Requirement::new(key, Operator::LessThan, vec![self.exact_value()?]),
            _ => found(operator, "', expected: in, notin, =, ==, !=, gt, lt"),
        }
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        let next = self.peek();
        if next == Token::End || next.is(",") {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => Ok(value.to_owned()),
            token => found(token, "', expected: identifier"),
        }
    }

    fn value_set(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if !open.is("(") {
            return found(open, "' expected: '('");
        }
        let mut values = Vec::new();
        // An empty place before, between or after commas is the empty value.
        let mut due = true;
        loop {
            let token = self.next();
            match token {
                Token::Word(value) if due => {
                    values.push(value.to_owned());
                    due = false;
                }
                token if token.is(",") => {
                    if due {
                        values.push(String::new());
                    }
                    due = true;
                }
                token if token.is(")") => {
                    if due {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                token => return found(token, "', expected: ',' or ')'"),
            }
        }
    }
}
