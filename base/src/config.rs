//! Configuration files: TOML, unknown keys refused. Flags and environment are clap's job; a component merges them over the
//! file's values (defaults < file < environment < flags) and checks once.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read configuration file {path}")]
    Read {
        /// The file named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not valid TOML, or has a key or type that the component does not know.
    #[error("configuration file {path} is not valid: {source}")]
    Parse {
        /// The file named.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Values that contradict each other or are out of range; all of them at once.
    #[error("configuration is not usable: {}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// Reads `path`, or takes the defaults when there is none.
pub fn load<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, ConfigError> {
    let Some(path) = path else {
        return Ok(T::default());
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        name: String,
    }

    #[test]
    fn refuses_unknown_keys_and_names_the_file() {
        let file = std::env::temp_dir().join(format!("corten-config-{}.toml", std::process::id()));
        std::fs::write(&file, "name = \"a\"\nnmae = 1\n").expect("temp file");
        let error = load::<Sample>(Some(&file))
            .expect_err("unknown key")
            .to_string();
        std::fs::remove_file(&file).expect("remove");
        assert!(
            error.contains("nmae") && error.contains("corten-config"),
            "{error}"
        );
        assert_eq!(load::<Sample>(None).expect("defaults"), Sample::default());
    }
}
