//! The modules of one crate: found by following `mod` items from its root, kept in the order of their lists.
//!
//! Knows where a module's file lies and what a path names; judges nothing.

use std::collections::{BTreeMap, HashMap};

use super::RULE;
use super::references::{self, is_for_tests};
use crate::tidy::finding::Finding;
use crate::workspace::Tree;

/// How many re-exports a path is followed through; more is a cycle.
const ALIASES_MAX: usize = 16;

/// One module: inline, or a file.
pub(super) struct Module {
    /// Its names from the root of the crate; the root's is empty.
    pub(super) path: Vec<String>,
    /// The file it is written in.
    pub(super) file: String,
    /// Its modules in the order of their list; those for tests are left out.
    pub(super) children: Vec<String>,
    /// Its items, without those modules.
    pub(super) items: Vec<syn::Item>,
    /// What its imports and re-exports call by a name of their own.
    aliases: HashMap<String, Vec<String>>,
}

/// The modules of one crate.
pub(super) struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

impl Crate {
    /// Follows the `mod` items from the file at `root`.
    pub(super) fn load(tree: &Tree, root: &str) -> Result<Self, Finding> {
        let mut krate = Self { modules: BTreeMap::new() };
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let items = parse(tree, root)?;
        krate.add(
            tree,
            Place { path: Vec::new(), file: root.to_owned(), folder: folder.to_owned() },
            items,
        )?;
        Ok(krate)
    }

    /// Returns every module.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.values()
    }

    /// Returns the module at a path from the root.
    pub(super) fn module(&self, path: &[String]) -> Option<&Module> {
        self.modules.get(path)
    }

    /// Returns the innermost module that a path, written in the module at `from`, names or leads into.
    pub(super) fn resolve(&self, from: &[String], segments: &[String]) -> Vec<String> {
        self.follow(from, segments, ALIASES_MAX)
    }

    fn follow(&self, from: &[String], segments: &[String], aliases_left: usize) -> Vec<String> {
        let mut at = from.to_vec();
        let mut rest = segments;
        while let Some((first, behind)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => {
                    at.pop();
                }
                name => {
                    let Some(module) = self.module(&at) else { break };
                    if module.children.iter().any(|child| child == name) {
                        at.push(name.to_owned());
                    } else if let (Some(alias), 1..) = (module.aliases.get(name), aliases_left) {
                        let whole = alias.iter().chain(behind).cloned().collect::<Vec<_>>();
                        return self.follow(&at, &whole, aliases_left - 1);
                    } else {
                        break;
                    }
                }
            }
            rest = behind;
        }
        at
    }

    fn add(&mut self, tree: &Tree, place: Place, items: Vec<syn::Item>) -> Result<(), Finding> {
        let mut module = Module {
            path: place.path.clone(),
            file: place.file.clone(),
            children: Vec::new(),
            items: Vec::new(),
            aliases: references::aliases(&items),
        };
        for item in items {
            match item {
                syn::Item::Mod(child) if is_for_tests(&child.attrs) => {}
                syn::Item::Mod(child) => {
                    module.children.push(child.ident.to_string());
                    let (place, items) = place.enter(tree, child)?;
                    self.add(tree, place, items)?;
                }
                item => module.items.push(item),
            }
        }
        self.modules.insert(place.path, module);
        Ok(())
    }
}

/// Where a module is written, and where the files of its children lie.
struct Place {
    path: Vec<String>,
    file: String,
    folder: String,
}

impl Place {
    /// Finds and reads a child: its block, else `name.rs`, else `name/mod.rs`.
    fn enter(&self, tree: &Tree, child: syn::ItemMod) -> Result<(Self, Vec<syn::Item>), Finding> {
        let name = child.ident.to_string();
        let folder = if self.folder.is_empty() { name.clone() } else { format!("{}/{name}", self.folder) };
        let path = self.path.iter().chain([&name]).cloned().collect();
        let line = child.ident.span().start().line;
        if let Some((_, items)) = child.content {
            return Ok((Self { path, file: self.file.clone(), folder }, items));
        }
        let files = [format!("{folder}.rs"), format!("{folder}/mod.rs")];
        let file = files.into_iter().find(|file| tree.text(file).is_some()).ok_or_else(|| {
            Finding::new(&self.file, line, RULE, format!("the file of module `{name}` is not in the tree"))
        })?;
        let items = parse(tree, &file)?;
        Ok((Self { path, file, folder }, items))
    }
}

fn parse(tree: &Tree, file: &str) -> Result<Vec<syn::Item>, Finding> {
    let text = tree.text(file).unwrap_or_default();
    syn::parse_file(text).map(|parsed| parsed.items).map_err(|error| {
        let line = error.span().start().line;
        Finding::new(file, line, RULE, format!("cannot be parsed: {error}"))
    })
}
