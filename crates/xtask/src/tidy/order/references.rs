//! The paths that a piece of code mentions. Collects only those that begin with `crate`, `self` or `super`:
//! everything else was imported by one of them, or is not ours.

use std::collections::HashMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// A path into the own crate, as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// Its names; the first is `crate`, `self` or `super`.
    pub(super) segments: Vec<String>,
    /// The line of its last name.
    pub(super) line: usize,
}

/// Returns every path into the own crate that these items mention outside of tests.
pub(super) fn collect(items: &[syn::Item]) -> Vec<Reference> {
    let mut collector = Collector::default();
    for item in items {
        collector.visit_item(item);
    }
    collector.found
}

/// Returns the names that the imports and re-exports among these items bind, with the paths they stand for.
pub(super) fn aliases(items: &[syn::Item]) -> HashMap<String, Vec<String>> {
    items
        .iter()
        .filter_map(|item| if let syn::Item::Use(import) = item { Some(leaves(import)) } else { None })
        .flatten()
        .filter_map(|leaf| Some((leaf.name?, leaf.path)))
        .collect()
}

/// Tells whether code with these attributes exists only in tests.
pub(super) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && requires_test(list.tokens.clone()),
        _ => false,
    })
}

/// Tells whether a `cfg` predicate holds only in tests: `test`, or an `all` of which one part requires it.
fn requires_test(predicate: TokenStream) -> bool {
    let tokens = predicate.into_iter().collect::<Vec<_>>();
    tokens.iter().enumerate().any(|(at, token)| match (token, tokens.get(at + 1)) {
        (TokenTree::Ident(word), Some(TokenTree::Group(parts))) => {
            word == "all" && requires_test(parts.stream())
        }
        (TokenTree::Ident(word), _) => word == "test",
        _ => false,
    })
}

#[derive(Default)]
struct Collector {
    found: Vec<Reference>,
}

impl Collector {
    /// Keeps a path if it leads into the own crate and past its first word.
    fn keep(&mut self, segments: Vec<String>, line: usize) {
        if segments.len() > 1 && segments.first().is_some_and(|first| is_root_word(first)) {
            self.found.push(Reference { segments, line });
        }
    }

    /// Keeps the paths that a macro's tokens seem to hold.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let tokens = tokens.into_iter().collect::<Vec<_>>();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Ident(word) if is_root_word(&word.to_string()) => {
                    let mut segments = vec![word.to_string()];
                    let mut line = word.span().start().line;
                    while let Some(next) = name_behind_colons(&tokens[at..]) {
                        segments.push(next.to_string());
                        line = next.span().start().line;
                        at += 3;
                    }
                    self.keep(segments, line);
                }
                _ => {}
            }
        }
    }
}

fn is_root_word(word: &str) -> bool {
    matches!(word, "crate" | "self" | "super")
}

/// Returns `name` of tokens that begin with `:: name`.
fn name_behind_colons(tokens: &[TokenTree]) -> Option<&proc_macro2::Ident> {
    match tokens {
        [TokenTree::Punct(one), TokenTree::Punct(two), TokenTree::Ident(name), ..]
            if one.as_char() == ':' && two.as_char() == ':' =>
        {
            Some(name)
        }
        _ => None,
    }
}

/// One path that a `use` item imports.
struct Leaf {
    path: Vec<String>,
    /// The name it is bound to; a glob binds none of its own.
    name: Option<String>,
    line: usize,
}

/// Appends every leaf of a `use` tree that stands behind `path`.
fn read_leaves(tree: &syn::UseTree, path: &[String], leaves: &mut Vec<Leaf>) {
    let step = |ident: &syn::Ident| path.iter().cloned().chain([ident.to_string()]).collect::<Vec<_>>();
    // `self` at the end of a group is the path of the group.
    let last = |ident: &syn::Ident| {
        if ident == "self" && !path.is_empty() { path.to_vec() } else { step(ident) }
    };
    let line = tree.span().start().line;
    match tree {
        syn::UseTree::Path(next) => read_leaves(&next.tree, &step(&next.ident), leaves),
        syn::UseTree::Name(name) => {
            let path = last(&name.ident);
            leaves.push(Leaf { name: path.last().cloned(), path, line });
        }
        syn::UseTree::Rename(renamed) => {
            let name = Some(renamed.rename.to_string());
            leaves.push(Leaf { path: last(&renamed.ident), name, line });
        }
        syn::UseTree::Glob(_) => leaves.push(Leaf { path: path.to_vec(), name: None, line }),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                read_leaves(tree, path, leaves);
            }
        }
    }
}

/// Returns every leaf of a `use` item; none if it names another crate outright (`use ::name`).
fn leaves(import: &syn::ItemUse) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    if import.leading_colon.is_none() {
        read_leaves(&import.tree, &[], &mut leaves);
    }
    leaves
}

impl<'code> Visit<'code> for Collector {
    fn visit_item(&mut self, item: &'code syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'code syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, import: &'code syn::ItemUse) {
        for leaf in leaves(import) {
            self.keep(leaf.path, leaf.line);
        }
    }

    fn visit_path(&mut self, path: &'code syn::Path) {
        if path.leading_colon.is_none() {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.keep(segments, path.span().end().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'code syn::Macro) {
        visit::visit_macro(self, call);
        self.read_tokens(call.tokens.clone());
    }
}

/// Returns the attributes of the kinds of item that have a body or a path.
fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
