//! SPDX expressions, as far as crates use them: `OR`, `AND`, `WITH`, parentheses and the old `/` for `OR`.

use anyhow::{Result, bail};

/// Whether an expression can be satisfied with the allowed licences.
pub(super) fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let tokens = tokens(expression);
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        allowed,
    };
    let value = parser.any()?;
    if parser.at != tokens.len() {
        bail!("cannot read the licence expression \"{expression}\"");
    }
    Ok(value)
}

fn tokens(expression: &str) -> Vec<String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

struct Parser<'a> {
    tokens: &'a [String],
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<bool> {
        let mut value = self.all()?;
        while self.take("OR") {
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Ok(value)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let value = self.any()?;
            if !self.take(")") {
                bail!("a licence expression lacks a closing parenthesis");
            }
            return Ok(value);
        }
        let mut name = self.word()?;
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.word()?);
        }
        Ok((self.allowed)(&name))
    }

    fn word(&mut self) -> Result<String> {
        match self.tokens.get(self.at) {
            Some(word) if !["OR", "AND", "WITH", "(", ")"].contains(&word.as_str()) => {
                self.at += 1;
                Ok(word.clone())
            }
            Some(_) | None => bail!("a licence expression lacks a licence name"),
        }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|t| t == token);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(expression: &str) -> bool {
        let allowed = [
            "MIT",
            "Apache-2.0",
            "Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ];
        satisfied(expression, &|name| allowed.contains(&name)).unwrap()
    }

    #[test]
    fn either_side_of_or_and_both_sides_of_and_count() {
        assert!(ok("MIT OR GPL-3.0"));
        assert!(ok("GPL-3.0/MIT"));
        assert!(ok("(GPL-3.0 OR MIT) AND Unicode-3.0"));
        assert!(!ok("MIT AND GPL-3.0"));
        assert!(!ok("GPL-3.0"));
        assert!(ok("GPL-3.0 OR Apache-2.0 WITH LLVM-exception"));
        assert!(!ok("MIT WITH something"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "MIT OR", "(MIT", "MIT MIT", "AND"] {
            assert!(satisfied(text, &|_| true).is_err(), "{text}");
        }
    }
}
