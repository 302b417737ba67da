//! Configuration in layers, from the lowest precedence to the highest: defaults, file, environment, flags.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{files, rights::Owner};

/// Reason why a configuration is rejected; the process exits with code 64.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a valid configuration; the message includes the line.
    #[error("{}: {message}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The error and its position.
        message: String,
    },
    /// The value of a field is invalid.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// The error, and what a valid value would be.
        reason: String,
    },
}

/// A duration in the notation of configurations: `6s`, `500ms`, `1h 30m`, `366d`. Days are the largest unit: months and
/// years differ in length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Span, Self::Err> {
        humantime::parse_duration(text).map(Span)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 86_400, "d"),
            (seconds / 3_600 % 24, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(self.0.subsec_millis()), "ms"),
            (u64::from(self.0.subsec_micros() % 1_000), "us"),
            (u64::from(self.0.subsec_nanos() % 1_000), "ns"),
        ];
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut between = "";
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{between}{number}{unit}")?;
            between = " ";
        }
        Ok(())
    }
}

/// An address to listen on, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listen(pub Option<SocketAddr>);

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        match text {
            "off" => Ok(Listen(None)),
            text => text
                .parse()
                .map(|address| Listen(Some(address)))
                .map_err(|_| format!("{text:?} is neither host:port nor off")),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        text.parse()
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> String {
        listen.to_string()
    }
}

impl BadConfig {
    /// Returns the error that `field` is invalid because of `reason`.
    pub fn field(field: &'static str, reason: impl Into<String>) -> BadConfig {
        BadConfig::Field {
            field,
            reason: reason.into(),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| serde::de::Error::custom(format!("{text:?} is no span of time such as \"6s\": {error}")))
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Log format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A configuration that is assembled from layers of overrides.
pub trait Layered: Default + Serialize {
    /// The values that a file, the environment or flags may set.
    type Overrides: DeserializeOwned + Clone;

    /// Returns a file with lower precedence than the given one, which earlier commands wrote for these values.
    fn base(&self) -> Option<PathBuf>;

    /// Applies the values that a layer sets.
    fn apply(&mut self, overrides: Self::Overrides);

    /// Validates the values, individually and in combination.
    fn check(&self) -> Result<(), BadConfig>;

    /// Returns the log filter and the log format.
    fn logging(&self) -> (&str, LogFormat);

    /// Loads and validates a configuration: the defaults, overridden by [`base`](Self::base), then by `file` if given,
    /// then by `overrides` from the environment and flags.
    fn load(file: Option<&Path>, overrides: Self::Overrides) -> Result<Self, BadConfig> {
        let from_file = file.map(Self::read).transpose()?;
        let layered = |base: Option<Self::Overrides>| {
            let mut config = Self::default();
            let layers = base.into_iter().chain(from_file.clone()).chain([overrides.clone()]);
            layers.for_each(|layer| config.apply(layer));
            config
        };
        let mut config = layered(None);
        if let Some(base) = config.base() {
            // The file is in a server's directory: its contents, which the server's user controls, are read with the
            // rights of that user.
            let place = base.parent().filter(|place| !place.as_os_str().is_empty());
            let place = place.unwrap_or(Path::new("."));
            let name = base.file_name().unwrap_or_default();
            let text = Owner::of(place).and_then(|owner| owner.act(|at| files::read_text(&at.join(name), files::TEXT)));
            let text = text.unwrap_or_else(|error| Err(io::Error::other(error.to_string())));
            config = layered(Some(Self::parse(&base, text)?));
        }
        config.check()?;
        Ok(config)
    }

    /// Reads the values that a file sets; it may set only some.
    ///
    /// # Errors
    /// The file cannot be read, or contains unknown fields.
    fn read(path: &Path) -> Result<Self::Overrides, BadConfig> {
        Self::parse(path, files::read_regular_text(path, files::TEXT))
    }

    /// Parses the values that the text of a file sets.
    ///
    /// # Errors
    /// Same as [`read`](Self::read).
    fn parse(path: &Path, text: io::Result<String>) -> Result<Self::Overrides, BadConfig> {
        let path = path.to_owned();
        let text = match text {
            Ok(text) => text,
            Err(source) => return Err(BadConfig::Unreadable { path, source }),
        };
        toml::from_str(&text).map_err(|error| {
            let message = error.to_string();
            BadConfig::Invalid { path, message }
        })
    }

    /// Returns the effective configuration in the format of a file.
    fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// Defines `Config`, the effective configuration, and `Overrides`, the same fields as a file, the environment and flags
/// may set them. The caller defines `Config::check_fields`.
#[macro_export]
macro_rules! config {
    ($($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $flag:literal, $env:literal $(, $arg:meta)*;)+) => {
        /// The effective configuration.
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($field: $default,)+ }
            }
        }

        /// Values set by a file, the environment or flags; each is optional.
        #[derive(::clap::Args, Clone, Debug, Default, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Overrides {
            $($(#[doc = $doc])+ #[arg(long = $flag, env = $env $(, $arg)*)] pub $field: Option<$kind>,)+
        }

        impl $crate::config::Layered for Config {
            type Overrides = Overrides;

            fn base(&self) -> Option<::std::path::PathBuf> {
                self.base()
            }

            fn apply(&mut self, overrides: Overrides) {
                $(if let Some(value) = overrides.$field { self.$field = value; })+
            }

            fn logging(&self) -> (&str, $crate::config::LogFormat) {
                (&self.log, self.log_format)
            }

            fn check(&self) -> Result<(), $crate::config::BadConfig> {
                self.check_fields()
            }
        }
    };
}

/// Checks that `value` lies between `least` and `most`.
pub fn span(field: &'static str, value: Span, least: Duration, most: Duration) -> Result<(), BadConfig> {
    if value.0 < least || value.0 > most {
        let reason = format!("{value} is not between {} and {}", Span(least), Span(most));
        return Err(BadConfig::field(field, reason));
    }
    Ok(())
}

/// Checks that `value` lies between `least` and `most`.
pub fn number(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), BadConfig> {
    if value < least || value > most {
        return Err(BadConfig::field(
            field,
            format!("{value} is not between {least} and {most}"),
        ));
    }
    Ok(())
}
