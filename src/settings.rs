//! kelp's settings: what a user or a site has decided once and for all.
//!
//! `$XDG_CONFIG_HOME/kelp/config.toml` over `/etc/kelp/config.toml`, key by
//! key; neither needs to exist. Read by commands that work with images, never
//! by a stage. A key that kelp does not know is an error: a slip would
//! otherwise be a setting without effect. docs/reference/settings.md lists the
//! keys.

use std::path::{Path, PathBuf};

use crate::error::{Context, Failure, Result};
use crate::limits;
use crate::paths::ImageStore;

/// All keys.
const KEYS: [&str; 2] = ["image-stores", "keep-blobs"];

/// What the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Read-only stores, in the order in which they are asked.
    pub image_stores: Vec<ImageStore>,
    /// Whether the compressed layers of pulled images are kept once they are
    /// unpacked.
    pub keep_blobs: bool,
}

impl Settings {
    /// Reads `files` ([`crate::paths::settings_files`]). A key of an earlier
    /// file counts; one that is missing costs one system call.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let (mut image_stores, mut keep_blobs) = (None, None);
        for path in files {
            let table = read_file(path).doing(|| format!("read settings \"{}\"", path.display()))?;
            for (key, value) in table.into_iter().flatten() {
                let doing = || format!("read \"{key}\" in settings \"{}\"", path.display());
                match key.as_str() {
                    "image-stores" => {
                        let stores = self::image_stores(&value).doing(doing)?;
                        image_stores.get_or_insert(stores);
                    }
                    "keep-blobs" => {
                        let keep =
                            value.as_bool().ok_or_else(|| Failure::user("it is not true or false")).doing(doing)?;
                        keep_blobs.get_or_insert(keep);
                    }
                    other => {
                        return Err(Failure::user(format!("there is no setting \"{}\"", other.escape_debug()))
                            .doing(format!("read settings \"{}\"", path.display()))
                            .did_you_mean(other, KEYS)
                            .hint(format!("settings are {}", KEYS.join(", "))));
                    }
                }
            }
        }
        Ok(Self { image_stores: image_stores.unwrap_or_default(), keep_blobs: keep_blobs.unwrap_or(true) })
    }
}

fn read_file(path: &Path) -> Result<Option<toml::Table>> {
    let bytes = match limits::read_file(path, limits::USER_FILE_BYTES_MAX) {
        Err(failure) if failure.is_errno(libc::ENOENT) || failure.is_errno(libc::ENOTDIR) => return Ok(None),
        result => result?,
    };
    let text = String::from_utf8(bytes).map_err(|_| Failure::user("it is not UTF-8"))?;
    let table = text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Failure::user(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    })?;
    Ok(Some(table))
}

fn image_stores(value: &toml::Value) -> Result<Vec<ImageStore>> {
    let wrong = || Failure::user("it is not a list of texts such as [\"ro:/srv/images\"]");
    let store = |value: &toml::Value| ImageStore::parse(value.as_str().ok_or_else(wrong)?);
    value.as_array().ok_or_else(wrong)?.iter().map(store).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[&str]) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = vec![dir.path().join("missing"), dir.path().join("missing/too")];
        for (number, text) in files.iter().enumerate() {
            let path = dir.path().join(number.to_string());
            std::fs::write(&path, text).unwrap();
            paths.push(path);
        }
        let stores = Settings::read(&paths)?.image_stores;
        Ok(stores.iter().map(|store| store.path().display().to_string()).collect())
    }

    #[test]
    fn the_first_file_that_has_a_key_counts() {
        assert_eq!(read(&[]).unwrap(), [""; 0]);
        let (user, site) = ("image-stores = [\"ro:/a\", \"ro:/b\"]", "image-stores = [\"ro:/c\"]");
        assert_eq!(read(&[user, site]).unwrap(), ["/a", "/b"]);
        assert_eq!(read(&["# nothing\n", site]).unwrap(), ["/c"]);
        assert_eq!(read(&["image-stores = []", site]).unwrap(), [""; 0]);
    }

    #[test]
    fn slips_are_named() {
        let failure = read(&["\nimage-store = [\"ro:/a\"]"]).unwrap_err();
        assert!(failure.sentence().contains("there is no setting \"image-store\""), "{failure}");
        assert_eq!(failure.hints[0], "did you mean \"image-stores\"?");
        for (text, why) in [
            ("\n\nimage-stores = [", "line 3"),
            ("image-stores = \"ro:/a\"", "list"),
            ("image-stores = [1]", "list"),
            ("keep-blobs = \"no\"", "true or false"),
            ("image-stores = [\"/a\"]", "ro:"),
            ("image-stores = [\"rw:/a\"]", "read"),
            ("image-stores = [\"ro:a\"]", "absolute"),
        ] {
            let failure = read(&[text]).unwrap_err();
            assert!(failure.sentence().contains(why), "{text}: {failure}");
        }
        // An error in a file that does not count is one all the same.
        assert!(read(&["image-stores = []", "image-stores = 1"]).is_err());
    }
}
