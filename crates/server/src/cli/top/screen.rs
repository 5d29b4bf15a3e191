//! The terminal: a page of its own, keys without Enter, everything given back at the end.

use crate::exit::Failure;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};
use std::io::{Write as _, stdout};
use std::time::Duration;

/// What the reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Other,
}

/// The terminal while it is ours.
#[derive(Debug)]
pub(super) struct Screen(());

fn broken(error: std::io::Error) -> Failure {
    Failure::failed(format!("the terminal does not work ({error}); use --once"))
}

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        enable_raw_mode().map_err(broken)?;
        let screen = Self(());
        execute!(stdout(), EnterAlternateScreen, Hide).map_err(broken)?;
        Ok(screen)
    }

    /// As many lines as fit, none wrapped.
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let (columns, rows) = terminal::size().map_err(broken)?;
        let mut out = stdout().lock();
        let shown = lines.iter().take(usize::from(rows).max(1));
        for (row, line) in (0..rows).zip(shown) {
            let line: String = line.chars().take(usize::from(columns)).collect();
            queue!(out, MoveTo(0, row), Clear(ClearType::CurrentLine), Print(line)).map_err(broken)?;
        }
        let used = u16::try_from(lines.len()).unwrap_or(rows);
        if used < rows {
            queue!(out, MoveTo(0, used), Clear(ClearType::FromCursorDown)).map_err(broken)?;
        }
        out.flush().map_err(broken)
    }

    /// Waits for a key, at most `wait`.
    pub(super) async fn key(&mut self, wait: Duration) -> Result<Option<Key>, Failure> {
        let read = tokio::task::spawn_blocking(move || -> std::io::Result<Option<Event>> {
            if event::poll(wait)? {
                event::read().map(Some)
            } else {
                Ok(None)
            }
        });
        let event = read
            .await
            .map_err(|error| Failure::failed(format!("reading keys failed: {error}")))?
            .map_err(broken)?;
        Ok(event.as_ref().map(meaning))
    }
}

fn meaning(event: &Event) -> Key {
    let Event::Key(key) = event else {
        return Key::Other;
    };
    let interrupted = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let quits = interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    if quits && key.kind == KeyEventKind::Press {
        Key::Quit
    } else {
        Key::Other
    }
}

/// Whatever happens, the reader gets the terminal back as it was.
impl Drop for Screen {
    fn drop(&mut self) {
        _ = execute!(stdout(), Show, LeaveAlternateScreen);
        _ = disable_raw_mode();
    }
}
