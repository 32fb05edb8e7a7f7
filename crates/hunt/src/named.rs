//! How many tables a query comes to: what `with` names is put in wherever it is named, so that a short text can be a plan of any size.
//!
//! In: a statement. Out: a number, which is never too small. Invariant: it is found in a time that depends on the text, and not on the plan.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    ptr,
};

use datafusion::sql::sqlparser::ast::{ObjectName, Query, Visit, Visitor, visit_relations};

/// Tables of one query.
pub(crate) const MAX_TABLES: usize = 256;

/// What `with` names and the tables that each of it names, and the tables that are named outside of all that.
#[derive(Default)]
struct Named {
    within: HashMap<String, Vec<String>>,
    outside: Vec<String>,
    /// Where the queries are that `with` names, and how many of them the walk is in.
    bodies: HashSet<*const Query>,
    depth: usize,
}

impl Visitor for Named {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.depth += usize::from(self.bodies.contains(&ptr::from_ref(query)));
        for named in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.bodies.insert(ptr::from_ref(&*named.query));
            // Of several that are called the same all count.
            let of = self.within.entry(named.alias.name.value.to_lowercase()).or_default();
            of.extend(names(&*named.query));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.depth -= usize::from(self.bodies.contains(&ptr::from_ref(query)));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if self.depth == 0 {
            self.outside.push(own(name));
        }
        ControlFlow::Continue(())
    }
}

fn own(name: &ObjectName) -> String {
    name.to_string().trim_matches('"').to_lowercase()
}

fn names(of: &impl Visit) -> Vec<String> {
    let mut names = Vec::new();
    let _ = visit_relations(of, |name: &ObjectName| {
        names.push(own(name));
        ControlFlow::<()>::Continue(())
    });
    names
}

/// How many tables it comes to, at most.
pub(crate) fn count(statement: &impl Visit) -> usize {
    let mut named = Named::default();
    let _ = statement.visit(&mut named);
    let (mut known, mut under_way) = (HashMap::new(), HashSet::new());
    sum(&named.outside, &named.within, &mut known, &mut under_way)
}

fn sum<'a>(
    names: &'a [String],
    named: &'a HashMap<String, Vec<String>>,
    known: &mut HashMap<&'a str, usize>,
    under_way: &mut HashSet<&'a str>,
) -> usize {
    let mut all = 0_usize;
    for name in names {
        let of = match (known.get(&**name), named.get(name)) {
            (Some(known), _) => *known,
            (None, None) => 1,
            // What names itself is refused elsewhere, or is a table of that name.
            (None, Some(_)) if !under_way.insert(name) => 1,
            (None, Some(inner)) => {
                let of = sum(inner, named, known, under_way).saturating_add(1);
                under_way.remove(&**name);
                known.insert(name, of);
                of
            }
        };
        all = all.saturating_add(of);
    }
    all
}
