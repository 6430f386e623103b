//! A module uses only modules listed above it: the list of `mod` items in `lib.rs`, `main.rs` or a parent
//! module is the order in which one reads, and no cycle hides in it.
//!
//! Looks at paths that begin with `crate`, `self` or `super`, also inside `use` groups and, as far as tokens
//! tell, inside macros. A parent may use its children, and a child the items of its parents (they are one
//! idea); `#[cfg(test)]` code may use everything.
//!
//! ```text
//!   lib.rs --(mod items)--> modules --(paths)--> references --(order of the common parent)--> findings
//! ```

/// Collecting the paths that a module's code mentions.
mod references;

/// Finding the modules of a crate, and what a path in one of them names.
mod modules;

use super::finding::Finding;
use crate::workspace::Tree;
use modules::{Crate, Module};

const RULE: &str = "module-order";

/// Reports every path that names a module listed below the one it stands in.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .map(|(path, _)| path)
        .filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"))
        .flat_map(|root| match Crate::load(tree, root) {
            Ok(krate) => check_crate(&krate),
            Err(finding) => vec![finding],
        })
        .collect()
}

fn check_crate(krate: &Crate) -> Vec<Finding> {
    let mut findings = Vec::new();
    for module in krate.modules() {
        for reference in references::collect(&module.items) {
            let target = krate.resolve(&module.path, &reference.segments);
            if let Some(message) = objection(krate, module, &target) {
                findings.push(Finding::new(&module.file, reference.line, RULE, message));
            }
        }
    }
    findings.dedup();
    findings
}

/// Returns why `module` must not use the module at `target`, if it must not.
fn objection(krate: &Crate, module: &Module, target: &[String]) -> Option<String> {
    let common = module.path.iter().zip(target).take_while(|(ours, theirs)| ours == theirs).count();
    let (ours, theirs) = (module.path.get(common)?, target.get(common)?);
    let parent = krate.module(&module.path[..common])?;
    let place = |name: &String| parent.children.iter().position(|child| child == name);
    (place(theirs)? > place(ours)?).then(|| {
        let used = format!("crate::{}", target[..=common].join("::"));
        format!("uses `{used}`, which {} lists below `{ours}`", parent.file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a crate of these files; `lines` are the places of the findings.
    #[track_caller]
    fn check_files(files: &[(&str, &str)], places: &[(&str, usize)]) {
        let findings = check(&Tree::of(files));
        assert_eq!(findings.iter().map(Finding::place).collect::<Vec<_>>(), places, "{findings:?}");
    }

    /// Checks the code of module `b` in a crate that lists `a`, `b` (with `b::x`, `b::y`), `c`.
    #[track_caller]
    fn check_b(code: &str, lines: &[usize]) {
        let code = format!("{code}\nmod x;\nmod y;\n");
        let files = [
            ("src/lib.rs", "//! l\nmod a;\nmod b;\nmod c;\npub use c::C as Late;\npub use a::A as Early;\n"),
            ("src/a.rs", ""),
            ("src/b.rs", &code),
            ("src/b/x.rs", ""),
            ("src/b/y.rs", ""),
            ("src/c.rs", ""),
        ];
        check_files(&files, &lines.iter().map(|line| ("src/b.rs", *line)).collect::<Vec<_>>());
    }

    #[test]
    fn imports_point_up() {
        check_b("use crate::a::A;", &[]);
        check_b("use crate::c::C;", &[1]);
        check_b("use super::c::C;", &[1]);
        check_b("use super::a::A;", &[]);
        check_b("use crate::{a::A, c::{self, C}};", &[1]);
        check_b("use crate::{\n    a::A,\n    c,\n};", &[3]);
        check_b("use crate::c as d;", &[1]);
        check_b("use crate::c::*;", &[1]);
        check_b("pub use crate::c::C;", &[1]);
        check_b("fn f() { use crate::c::C; }", &[1]);
    }

    #[test]
    fn paths_point_up() {
        check_b("fn f() -> crate::a::A { crate::a::g() }", &[]);
        check_b("fn f() -> crate::c::C { todo() }", &[1]);
        check_b("fn f() { crate::c::g(); }", &[1]);
        check_b("fn f(v: Vec<super::c::C>) {}", &[1]);
        check_b("impl crate::c::Trait for B {}", &[1]);
        check_b("fn f(e: E) { match e { crate::c::E::One => {} _ => {} } }", &[1]);
        check_b("#[derive(Debug)]\nstruct B(Option<crate::c::C>);", &[2]);
    }

    #[test]
    fn macros_are_looked_into() {
        check_b("fn f() { assert_eq!(crate::c::g(), 1); }", &[1]);
        check_b("fn f() { println!(\"{}\", { super::c::g() }); }", &[1]);
        check_b("macro_rules! m { () => { $crate::c::g() } }", &[1]);
        check_b("fn f() { assert!(crate::a::g()); }", &[]);
        check_b("fn f() { log!(\"crate::c::g\"); }", &[]);
    }

    #[test]
    fn a_name_of_the_root_stands_for_what_it_names() {
        check_b("use crate::Early;", &[]);
        check_b("use crate::Late;", &[1]);
        check_b("fn f(late: crate::Late) {}", &[1]);
    }

    #[test]
    fn tests_use_everything() {
        check_b("#[cfg(test)]\nmod tests { use crate::c::C; }", &[]);
        check_b("#[cfg(all(test, unix))]\nuse crate::c::C;", &[]);
        check_b("#[cfg(test)]\nfn f() { crate::c::g(); }", &[]);
        check_b("impl B { #[cfg(test)] fn f() { crate::c::g(); } }", &[]);
        check_b("#[cfg(not(test))]\nuse crate::c::C;", &[2]);
        check_b("#[cfg(any(test, unix))]\nuse crate::c::C;", &[2]);
        check_b("mod inner { use crate::c::C; }", &[1]);
    }

    #[test]
    fn parents_and_children_are_one_idea() {
        check_b("fn f() { self::x::g(); y::h(); crate::b::y::h(); }", &[]);
        check_files(
            &[("src/lib.rs", "mod b;\nstruct Root;\n"), ("src/b.rs", "use crate::Root;\nuse super::*;\n")],
            &[],
        );
    }

    #[test]
    fn brothers_follow_the_list_of_their_parent() {
        let files = |x: &'static str, y: &'static str| {
            [
                ("src/main.rs", "mod b;\nmod c;\n"),
                ("src/b/mod.rs", "mod x;\nmod y;\n"),
                ("src/b/x.rs", x),
                ("src/b/y.rs", y),
                ("src/c.rs", "use crate::b::y;\n"),
            ]
        };
        check_files(&files("", "use super::x::X;\n"), &[]);
        check_files(&files("use super::y::Y;\n", ""), &[("src/b/x.rs", 1)]);
        check_files(&files("use crate::b::y::Y;\n", "use super::x::X;\n"), &[("src/b/x.rs", 1)]);
        check_files(&files("\nuse super::super::c::C;\n", ""), &[("src/b/x.rs", 2)]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        check_files(&[("src/lib.rs", "mod gone;\n")], &[("src/lib.rs", 1)]);
        check_files(&[("src/lib.rs", "mod a;\n"), ("src/a.rs", "\nfn {\n")], &[("src/a.rs", 2)]);
        check_files(&[("src/lib.rs", "#[cfg(test)]\nmod gone;\n")], &[]);
    }
}
