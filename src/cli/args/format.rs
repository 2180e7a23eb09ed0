//! `--format`.

use clap::ValueEnum;

/// How a command prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// [`Format`], or a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Shape {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// A Go template, printed for each item.
    Template(String),
}

impl std::str::FromStr for Shape {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" | "table" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ if text.contains("{{") => Ok(Self::Template(text.to_owned())),
            _ => Err("want text, json or a template such as '{{.ID}}'"),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Template(template) => template,
        })
    }
}
