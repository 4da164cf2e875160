//! The rows of a table of settings, and the flags that they are.

use clap::{Arg, ArgAction, Command};

use super::{CONFIG, PREFIX};

/// How often a setting is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Once.
    One,
    /// Several times: a flag for each, words in the environment, a list in the file.
    Many,
    /// It is there, or not.
    Switch,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// As a flag has it, without the dashes.
    pub name: &'static str,
    /// What stands for a value in the help.
    pub value: &'static str,
    /// How often it is given.
    pub kind: Kind,
    /// Its value, if nothing is said.
    pub default: Option<&'static str>,
    /// One sentence.
    pub help: &'static str,
    /// Whether it is shown to nobody, and said by the environment alone: an argument is there for all to see, and a file of settings is
    /// for many to read.
    pub secret: bool,
}

impl Setting {
    /// One that is given once, without a default.
    #[must_use]
    pub const fn one(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { name, value, kind: Kind::One, default: None, help, secret: false }
    }

    /// One that may be given several times.
    #[must_use]
    pub const fn many(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Many, ..Self::one(name, value, help) }
    }

    /// One that is there or not.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { kind: Kind::Switch, ..Self::one(name, "", help) }
    }

    /// A secret, which only the environment may hold.
    #[must_use]
    pub const fn secret(name: &'static str, help: &'static str) -> Self {
        Self { secret: true, ..Self::one(name, "", help) }
    }

    /// With a default.
    #[must_use]
    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    pub(super) fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key().to_uppercase())
    }

    fn arg(&self) -> Arg {
        let default = self.default.map(|default| format!(" [default: {default}]"));
        let help =
            format!("{}{} [env: {}]", self.help, default.unwrap_or_default(), self.variable());
        let arg = Arg::new(self.name).long(self.name).help(help);
        match self.kind {
            Kind::One => arg.value_name(self.value).action(ArgAction::Set),
            Kind::Many => arg.value_name(self.value).action(ArgAction::Append),
            Kind::Switch => arg.action(ArgAction::SetTrue),
        }
    }
}

/// A command that takes the settings of `table` as flags, and the name of a file.
#[must_use]
pub fn command(name: &'static str, about: &'static str, table: &[Setting]) -> Command {
    let config = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .help(format!("The rest, as TOML [env: {PREFIX}CONFIG]"));
    let shown = table.iter().filter(|setting| !setting.secret);
    let command = Command::new(name).about(about).arg(config).args(shown.map(Setting::arg));
    let secrets = table.iter().filter(|setting| setting.secret);
    let lines = secrets.map(|setting| format!("  {}  {}\n", setting.variable(), setting.help));
    match lines.collect::<String>() {
        lines if lines.is_empty() => command,
        lines => command.before_long_help(format!("From the environment alone:\n{lines}")),
    }
}
