//! Word expansion: `$v`, `${v}` with its operators, quotes and escapes (S3).

use std::ops::Range;

use super::pattern::{Pattern, PatternError};

/// How deep `${a:-${b:-…}}` may nest.
const DEEPEST: usize = 64;

/// By how many bytes a text may grow when it is expanded: more than any process can be given.
const MOST_GROWTH: usize = 1 << 20;

/// How much one text's patterns may cost: the sum of their lengths times those of the values.
const MOST_COST: usize = 16 << 20;

/// The value of a variable, `None` if it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote without its partner.
    #[error("a {0} quote is not closed")]
    OpenQuote(&'static str),
    /// `${` without `}`, or `${x/` without the second `/`.
    #[error("syntax error: missing '{0}' in a ${{…}} form")]
    Missing(char),
    /// `${}`, `${{`, `${:`.
    #[error("syntax error: bad substitution, a name must follow ${{")]
    BadSubstitution,
    /// An operator that does not exist.
    #[error("unsupported modifier ({0}) in substitution of {1:?}")]
    Modifier(String, String),
    /// `${x:?message}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text after the operator, or a stock one.
        message: String,
    },
    /// A pattern that does not work.
    #[error("invalid pattern {pattern:?} in substitution: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many `${…}` inside each other.
    #[error("substitutions are nested more than {DEEPEST} deep")]
    TooDeep,
    /// Values that hold values that hold values.
    #[error("the variables in it make it more than {} KiB longer", MOST_GROWTH >> 10)]
    TooLong,
}

impl ExpandError {
    /// Whether `word`, of which this was said without any variable, is wrong whatever they hold: a
    /// pattern may become one by what a second variable adds to it.
    fn is_certain(&self, word: &str) -> bool {
        match self {
            Self::Required { .. } | Self::TooLong => false,
            Self::Pattern { .. } => word.matches('$').count() == 1,
            _ => true,
        }
    }
}

/// Expands one word: variables, quotes removed, escapes removed.
pub fn expand_word(word: &str, escape: char, env: Lookup<'_>) -> Result<String, ExpandError> {
    let mut expander = Expander::new(word, escape, env, true);
    Ok(expander.until(None, false)?.text)
}

/// Expands a word and splits the result at white space that was not quoted (`EXPOSE`).
pub fn expand_words(word: &str, escape: char, env: Lookup<'_>) -> Result<Vec<String>, ExpandError> {
    let mut expander = Expander::new(word, escape, env, true);
    Ok(expander.until(None, false)?.words())
}

/// Expands the body of a heredoc: variables and backslashes, quotes are ordinary characters.
pub fn expand_heredoc(body: &str, env: Lookup<'_>) -> Result<String, ExpandError> {
    let mut expander = Expander::new(body, '\\', env, false);
    Ok(expander.until(None, false)?.text)
}

/// What is wrong with `word` whatever its variables will be: open quotes and braces, operators and
/// patterns that there are not. Told before any base is fetched.
pub fn check_word(word: &str, escape: char) -> Result<(), ExpandError> {
    match expand_word(word, escape, &|_| None) {
        Err(error) if error.is_certain(word) => Err(error),
        _ => Ok(()),
    }
}

/// The same for the body of a heredoc.
pub fn check_heredoc(body: &str) -> Result<(), ExpandError> {
    match expand_heredoc(body, &|_| None) {
        Err(error) if error.is_certain(body) => Err(error),
        _ => Ok(()),
    }
}

/// Where in `text`, of which [`check_word`] or (without `quotes`) [`check_heredoc`] found something
/// wrong, the form or quote stands that is.
pub fn wrong_part(text: &str, escape: char, quotes: bool) -> Option<Range<usize>> {
    let env = |_: &str| None;
    let mut expander = Expander::new(text, escape, &env, quotes);
    expander.until(None, false).err()?;
    let left = |letters: &Letters<'_>| letters.clone().map(char::len_utf8).sum::<usize>();
    let start = text.len() - left(&expander.form);
    let end = text.len() - left(&expander.letters);
    // Reading stopped in the middle; people see the whole form.
    let (form, rest) = (&text[start..end], &text[end..]);
    let close = rest.find(|c: char| c == '}' || c.is_whitespace());
    let close = close.filter(|at| rest[*at..].starts_with('}'));
    match close {
        Some(at) if form.starts_with("${") && !form.contains('}') => Some(start..end + at + 1),
        _ => Some(start..end),
    }
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Text, and the same text cut into words as it grows.
#[derive(Default)]
struct Output {
    text: String,
    word: String,
    done: Vec<String>,
}

impl Output {
    fn plain(&mut self, letter: char) {
        self.text.push(letter);
        self.splitting(letter);
    }

    fn splitting(&mut self, letter: char) {
        if !letter.is_whitespace() {
            self.word.push(letter);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    fn variable(&mut self, value: &str) {
        self.text.push_str(value);
        value.chars().for_each(|letter| self.splitting(letter));
    }

    fn words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Expander<'a> {
    letters: Letters<'a>,
    /// From where on the form or quote stands that is being read, if it is in no other.
    form: Letters<'a>,
    escape: char,
    env: Lookup<'a>,
    quotes: bool,
    depth: usize,
    /// How long no text may become.
    limit: usize,
    /// What its patterns may cost yet.
    cost: usize,
}

impl<'a> Expander<'a> {
    fn new(text: &'a str, escape: char, env: Lookup<'a>, quotes: bool) -> Self {
        Self {
            letters: text.chars().peekable(),
            form: text.chars().peekable(),
            escape,
            env,
            quotes,
            depth: 0,
            limit: text.len() + MOST_GROWTH,
            cost: MOST_COST,
        }
    }

    /// Up to and including `stop`, or to the end. With `raw` escape characters stay.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, ExpandError> {
        let mut out = Output::default();
        loop {
            let here = self.letters.clone();
            let Some(letter) = self.letters.next() else {
                break;
            };
            if stop.is_none() && matches!(letter, '$' | '\'' | '"') {
                self.form = here;
            }
            match letter {
                letter if Some(letter) == stop => return Ok(out),
                '$' => {
                    out.variable(&self.dollar()?);
                    self.check_length(&out.text)?;
                }
                '\'' if self.quotes => out.quoted(&self.single_quoted()?),
                '"' if self.quotes => out.quoted(&self.double_quoted(raw)?),
                letter if letter == self.escape => {
                    if raw {
                        out.quoted(letter.encode_utf8(&mut [0; 4]));
                    }
                    if let Some(next) = self.letters.next() {
                        out.quoted(next.encode_utf8(&mut [0; 4]));
                    }
                }
                letter => out.plain(letter),
            }
        }
        match stop {
            None => Ok(out),
            Some(stop) => Err(ExpandError::Missing(stop)),
        }
    }

    fn check_length(&self, text: &str) -> Result<(), ExpandError> {
        if text.len() > self.limit {
            return Err(ExpandError::TooLong);
        }
        Ok(())
    }

    fn pay(&mut self, pattern: &str, value: &str) -> Result<(), ExpandError> {
        let cost = (pattern.len() + 1).saturating_mul(value.len() + 1);
        let left = self.cost.checked_sub(cost);
        self.cost = left.ok_or_else(|| {
            let error = PatternError::Size(pattern.chars().count(), value.chars().count());
            pattern_error(pattern, &error)
        })?;
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.letters.next() {
                None => return Err(ExpandError::OpenQuote("single")),
                Some('\'') => return Ok(text),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.letters.next() {
                None => return Err(ExpandError::OpenQuote("double")),
                Some('"') => return Ok(text),
                Some('$') => {
                    text.push_str(&self.dollar()?);
                    self.check_length(&text)?;
                }
                Some(letter) if letter == self.escape => {
                    if raw {
                        text.push(letter);
                    }
                    match self.letters.peek().copied() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            text.push(next);
                            self.letters.next();
                        }
                        Some(_) => text.push(letter),
                    }
                }
                Some(letter) => text.push(letter),
            }
        }
    }

    /// What follows a `$`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if self.letters.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok((self.env)(&name).unwrap_or_default());
        }
        self.letters.next();
        if self.depth == DEEPEST {
            return Err(ExpandError::TooDeep);
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }

    /// What follows a `${`.
    fn braced(&mut self) -> Result<String, ExpandError> {
        match self.letters.peek() {
            None => return Err(ExpandError::Missing('}')),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.letters.next() {
            None => Err(ExpandError::Missing('}')),
            Some('}') => Ok((self.env)(&name).unwrap_or_default()),
            Some(':') => match self.letters.next() {
                None => Err(ExpandError::Missing('}')),
                Some(operator @ ('-' | '+' | '?')) => self.conditional(name, operator, true),
                Some(other) => Err(ExpandError::Modifier(format!(":{other}"), name)),
            },
            Some(operator @ ('-' | '+' | '?')) => self.conditional(name, operator, false),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator),
            Some('/') => self.replaced(&name),
            Some(other) => Err(ExpandError::Modifier(other.into(), name)),
        }
    }

    fn conditional(
        &mut self,
        name: String,
        operator: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false)?.text;
        let value = (self.env)(&name);
        let problem = match value.as_deref() {
            None => Some("is not allowed to be unset"),
            Some("") if empty_is_unset => Some("is not allowed to be empty"),
            Some(_) => None,
        };
        match (operator, problem) {
            ('+', None) | ('-', Some(_)) => Ok(word),
            ('+', Some(_)) => Ok(String::new()),
            ('?', Some(stock)) => Err(ExpandError::Required {
                name,
                message: if word.is_empty() { stock.into() } else { word },
            }),
            _ => Ok(value.unwrap_or_default()),
        }
    }

    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), true)?.text;
        let (longest, text) = match word.strip_prefix(operator) {
            Some(text) => (true, text),
            None => (false, word.as_str()),
        };
        let value = (self.env)(name).unwrap_or_default();
        self.pay(text, &value)?;
        let trim = |pattern: Pattern| match operator {
            '#' => pattern.trim_prefix(&value, longest),
            _ => pattern.trim_suffix(&value, longest),
        };
        Pattern::parse(text)
            .and_then(trim)
            .map_err(|error| pattern_error(text, &error))
    }

    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.letters.next_if_eq(&'/').is_some();
        let text = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        let value = (self.env)(name).unwrap_or_default();
        self.pay(&text, &value)?;
        let replace = |pattern: Pattern| match all {
            true => pattern.replace_all(&value, &replacement, self.limit),
            false => pattern.replace_first(&value, &replacement),
        };
        Pattern::parse(&text)
            .and_then(replace)
            .map_err(|error| pattern_error(&text, &error))
            .and_then(|text| self.check_length(&text).map(|()| text))
    }

    /// A name: one special character, digits, or letters, digits and `_`; empty if there is none.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.letters.peek().copied() {
            Some(first) if first.is_ascii_digit() => {
                while let Some(digit) = self.letters.next_if(char::is_ascii_digit) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.letters.next()),
            _ => {
                while let Some(letter) = self.letters.next_if(|c| c.is_alphanumeric() || *c == '_')
                {
                    name.push(letter);
                }
            }
        }
        name
    }
}

fn pattern_error(pattern: &str, error: &PatternError) -> ExpandError {
    if *error == PatternError::Long {
        return ExpandError::TooLong;
    }
    ExpandError::Pattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
