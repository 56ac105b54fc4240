//! Which key means what. A key is looked up in its *node*: the line itself, its attributes, an
//! error object, ... Earlier names of a role win over later ones when a line has both.

use std::collections::HashMap;

use nightshift_core::Failure;
use nightshift_core::config::{Ordered, nearest};

use super::names::{CHILDREN, COMMON, ENDINGS, INSIDE, NAMED, Node, OWN, SPECIAL, STEMS, TOP};

/// What a value is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Role {
    Time,
    Start,
    End,
    Duration,
    Operation,
    Event,
    Tool,
    Model,
    Task,
    Name,
    Success,
    TimedOut,
    Status,
    HttpStatus,
    Level,
    Error,
    ErrorType,
    Message,
    Cost,
    TaskId,
    Session,
    Trace,
    Params,
    PromptTokens,
    CompletionTokens,
}

/// Number of roles.
pub(super) const ROLES: usize = Role::CompletionTokens as usize + 1;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Position in the table, to notice a key that comes twice.
    pub(super) id: u16,
    /// Role, rank (lower wins) and power of ten of the unit.
    pub(super) role: Option<(Role, u16, i8)>,
    /// Node of the object under the key.
    pub(super) child: Option<Node>,
}

impl Slot {
    /// Of a key that means nothing.
    pub(super) const NOTHING: Self = Self { id: u16::MAX, role: None, child: None };

    /// The role of an object whose members have been looked at: it says no more than that there is
    /// an error, and less than anything else does.
    pub(super) fn around(self) -> Option<(Role, u16, i8)> {
        self.role.filter(|(role, ..)| *role == Role::Error).map(|(role, ..)| (role, u16::MAX, 0))
    }
}

/// Most slots of a table.
pub(super) const SLOTS: usize = 1024;

/// The table: by node, by key.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    nodes: Vec<HashMap<Box<[u8]>, Slot>>,
    ranks: [u16; ROLES],
    slots: u16,
}

impl Roles {
    /// The built-in names behind those of `own` (role name to paths; `/` between the keys of a path).
    pub(super) fn new(own: &Ordered<Vec<String>>) -> Result<Self, Failure> {
        let mut table = Self { nodes: vec![HashMap::new(); OWN.into()], ranks: [0; ROLES], slots: 0 };
        for (name, paths) in &own.0 {
            let Some(&(_, role, unit)) = NAMED.iter().find(|(known, ..)| known == name) else {
                let failure = Failure::config(format!("analyze_logs.roles: there is no role `{name}`"));
                return Err(match nearest(name, NAMED.iter().map(|(known, ..)| *known)) {
                    Some(near) => failure.hint(format!("did you mean `{near}`?")),
                    None => failure,
                });
            };
            for path in paths {
                table.add_path(path, role, unit)?;
            }
        }
        table.built_in();
        Ok(table)
    }

    fn built_in(&mut self) {
        for node in [TOP, INSIDE] {
            for &(role, unit, names) in COMMON {
                for name in names {
                    self.add(node, name, role, unit);
                }
            }
            for stem in STEMS {
                for (ending, unit) in ENDINGS {
                    self.add(node, &format!("{stem}{ending}"), Role::Duration, *unit);
                }
            }
        }
        for &(node, role, names) in SPECIAL {
            for name in names {
                self.add(node, name, role, 0);
            }
        }
        for &(parents, names, child) in CHILDREN {
            for &parent in parents {
                for name in names {
                    self.slot(parent, name).child.get_or_insert(child);
                }
            }
        }
    }

    fn add_path(&mut self, path: &str, role: Role, unit: i8) -> Result<(), Failure> {
        let mut keys: Vec<&str> = path.split('/').collect();
        let last = keys.pop().unwrap_or_default();
        if last.is_empty() || keys.len() > 4 || self.nodes.len() > 100 || usize::from(self.slots) > SLOTS / 4
        {
            return Err(Failure::config(format!("analyze_logs.roles: `{path}` cannot be used"))
                .hint("write one key, or keys with `/` between them"));
        }
        let mut node = TOP;
        for key in keys {
            // A built-in container keeps its node, so that its other names still count.
            let built_in = CHILDREN
                .iter()
                .find(|(parents, names, _)| parents.contains(&node) && names.contains(&key))
                .map(|(.., child)| *child);
            let next = self.nodes.len() as Node;
            let slot = self.slot(node, key);
            let child = *slot.child.get_or_insert(built_in.unwrap_or(next));
            if child == next {
                self.nodes.push(HashMap::new());
            }
            node = child;
        }
        self.add(node, last, role, unit);
        Ok(())
    }

    fn slot(&mut self, node: Node, key: &str) -> &mut Slot {
        let slots = &mut self.slots;
        self.nodes[usize::from(node)].entry(key.as_bytes().into()).or_insert_with(|| {
            *slots += 1;
            Slot { id: *slots - 1, role: None, child: None }
        })
    }

    /// A name that has a role already keeps it.
    fn add(&mut self, node: Node, key: &str, role: Role, unit: i8) {
        let rank = self.ranks[role as usize];
        if self.slot(node, key).role.is_none() {
            self.slot(node, key).role = Some((role, rank, unit));
            self.ranks[role as usize] = rank + 1;
        }
    }

    /// What `key` means in `node`.
    pub(super) fn get(&self, node: Node, key: &[u8]) -> Option<Slot> {
        self.nodes[usize::from(node)].get(key).copied()
    }
}

/// The raw values of a line by role.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fields<'a> {
    found: [Option<Found<'a>>; ROLES],
}

/// A raw value, the rank of its name and the power of ten of its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found<'a> {
    raw: &'a [u8],
    rank: u16,
    unit: i8,
}

impl<'a> Fields<'a> {
    /// Takes a value unless a better name has given one; `null` is no value.
    #[inline]
    pub(super) fn put(&mut self, (role, rank, unit): (Role, u16, i8), raw: &'a [u8]) {
        let place = &mut self.found[role as usize];
        if raw != b"null" && place.is_none_or(|found| rank < found.rank) {
            *place = Some(Found { raw, rank, unit });
        }
    }

    #[inline]
    pub(super) fn get(&self, role: Role) -> Option<&'a [u8]> {
        self.found[role as usize].map(|found| found.raw)
    }

    /// With the power of ten of its unit.
    #[inline]
    pub(super) fn measure(&self, role: Role) -> Option<(&'a [u8], i8)> {
        self.found[role as usize].map(|found| (found.raw, found.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(own: &[(&str, &[&str])]) -> Result<Roles, Failure> {
        let own = own
            .iter()
            .map(|(role, paths)| ((*role).to_owned(), paths.iter().map(|p| (*p).to_owned()).collect()));
        Roles::new(&Ordered(own.collect()))
    }

    #[test]
    fn units_come_from_names() {
        let table = table(&[]).unwrap();
        let unit = |key: &str| table.get(TOP, key.as_bytes()).unwrap().role.unwrap();
        assert_eq!((unit("duration").2, unit("latency_ms").2, unit("durationNano").2), (0, -3, -9));
        assert!(unit("timestamp").1 < unit("created").1, "earlier names win");
        assert!(usize::from(table.slots) < SLOTS);
    }

    #[test]
    fn ranks_of_one_role_never_tie() {
        let table = table(&[]).unwrap();
        let mut ranks: Vec<_> = table
            .nodes
            .iter()
            .flat_map(HashMap::values)
            .filter_map(|slot| slot.role)
            .map(|(r, k, _)| (r as u8, k))
            .collect();
        let count = ranks.len();
        ranks.sort_unstable();
        ranks.dedup();
        assert_eq!(ranks.len(), count);
    }

    #[test]
    fn own_names_win_and_may_lie_deep() {
        let table = table(&[
            ("tool", &["who", "ctx/agent/tool", "attributes/my.tool"]),
            ("duration_ms", &["duration"]),
        ])
        .unwrap();
        let top = |key: &str| table.get(TOP, key.as_bytes()).unwrap();
        assert_eq!(top("duration").role.unwrap(), (Role::Duration, 0, -3));
        assert!(top("who").role.unwrap().1 < top("tool_name").role.unwrap().1);
        let agent = table.get(top("ctx").child.unwrap(), b"agent").unwrap().child.unwrap();
        assert_eq!(table.get(agent, b"tool").unwrap().role.unwrap().0, Role::Tool);
        assert_eq!(top("attributes").child, Some(INSIDE));
    }

    #[test]
    fn an_unknown_role_is_named_with_its_neighbour() {
        let failure = table(&[("tol", &["x"])]).unwrap_err();
        assert_eq!((failure.exit().code(), failure.hints()), (9, &["did you mean `tool`?".to_owned()][..]));
        assert_eq!(table(&[("tool", &["a//"])]).unwrap_err().exit().code(), 9);
    }
}
