//! A container as the probe in it sees it.

use serde_json::Value;

/// What `probe inside` printed.
pub struct Inside(pub Value);

impl Inside {
    /// Reads the first line of output.
    #[track_caller]
    pub fn read(output: &str) -> Self {
        let line = output.lines().next().unwrap_or_default();
        match serde_json::from_str(line) {
            Ok(value) => Self(value),
            Err(error) => panic!("{error}: {output}"),
        }
    }

    /// A field of /proc/self/status, e.g. `CapEff`.
    #[track_caller]
    pub fn status(&self, field: &str) -> &str {
        self.0["status"][field].as_str().unwrap()
    }

    /// The five capability sets: inheritable, permitted, effective, bounding, ambient.
    pub fn capabilities(&self) -> [u64; 5] {
        ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
            .map(|field| u64::from_str_radix(self.status(field), 16).unwrap())
    }

    /// A text of the first level.
    #[track_caller]
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap()
    }

    /// A list of texts of the first level.
    #[track_caller]
    pub fn list(&self, field: &str) -> Vec<&str> {
        self.0[field].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
    }

    /// The inode of a namespace.
    #[track_caller]
    pub fn namespace(&self, kind: &str) -> u64 {
        self.0["namespaces"][kind].as_u64().unwrap()
    }

    /// A number of the first level.
    #[track_caller]
    pub fn number(&self, field: &str) -> i64 {
        self.0[field].as_i64().unwrap()
    }

    /// The topmost mount on `target`.
    pub fn mount(&self, target: &str) -> Option<&Value> {
        self.0["mounts"].as_array().unwrap().iter().rev().find(|mount| mount["target"] == target)
    }

    /// The options of the topmost mount on `target`.
    #[track_caller]
    pub fn mount_options(&self, target: &str) -> Vec<&str> {
        let mount = self.mount(target).unwrap_or_else(|| panic!("nothing is mounted on {target}"));
        mount["options"].as_str().unwrap().split(',').collect()
    }
}
