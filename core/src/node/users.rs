//! Users of a host that workloads may run as.

use serde::{Deserialize, Serialize};

/// Users of a host that workloads may run as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// User for specifications that name none, by name or number; empty if the host does not know it.
    pub default: String,
    /// All permitted users, including the default.
    pub permitted: Vec<User>,
    /// Names in the agent's configuration that its host does not know; no program runs as one of them.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// Whether the agent is not root: every program runs as the agent's own user, whatever its configuration says.
    #[serde(default)]
    pub own_only: bool,
}

/// A user of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name or number, as in the agent's configuration.
    pub name: String,
    /// User id on the host; `None` if the host could not resolve it.
    pub uid: Option<u32>,
}

impl Users {
    /// Whether a program may run as the user that a specification names; empty for none.
    pub fn permit(&self, declared: &str) -> bool {
        let number = declared.parse::<u32>().ok();
        let is_it = |user: &User| user.name == declared || number.is_some() && user.uid == number;
        match declared {
            "" => !self.default.is_empty(),
            _ => self.permitted.iter().any(is_it),
        }
    }

    /// Whether a program may run as root.
    pub fn root(&self) -> bool {
        self.permitted.iter().any(|user| user.uid == Some(0))
    }

    /// Names of the users, the default first.
    pub fn names(&self) -> String {
        let others = self.permitted.iter().map(|user| user.name.as_str());
        let others = others.filter(|name| *name != self.default);
        let default = Some(self.default.as_str()).filter(|name| !name.is_empty());
        default.into_iter().chain(others).collect::<Vec<_>>().join(", ")
    }
}
