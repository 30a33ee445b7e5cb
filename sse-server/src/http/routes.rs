//! Finds what a request asks for among the routes of all dialects.

use std::collections::BTreeMap;

use http::Method;

use super::query::decode;
use crate::dialect::{DIALECTS, Dialect, Operation, Route};

type Methods = Vec<(Method, Operation, &'static Dialect)>;

/// Finds the row for a request.
pub(super) struct Router {
    paths: matchit::Router<Methods>,
    index: String,
}

/// Which of all routes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// All.
    Everything,
    /// Those that are no management: the others are answered as if there was nothing.
    WithoutManagement,
}

/// The rows of one path.
pub(super) struct Matched<'a> {
    methods: &'a Methods,
    /// What stands at `{id}`, decoded, or what is wrong with it.
    pub(super) id: Option<Result<String, &'static str>>,
}

impl Router {
    pub(super) fn new(offer: Offer) -> Self {
        let mut by_path: BTreeMap<&str, Methods> = BTreeMap::new();
        let mut index = String::from("A hub for Server-Sent Events. There is:\n\n");
        for (route, dialect) in routes() {
            if offer == Offer::WithoutManagement && route.operation.is_management() {
                continue;
            }
            if route.operation != Operation::Index {
                index.push_str(&format!("{:>6} {}\n", route.method, route.path));
            }
            let method = route.method.parse().expect("a route names a method");
            by_path
                .entry(route.path)
                .or_default()
                .push((method, route.operation, dialect));
        }
        let mut paths = matchit::Router::new();
        for (path, methods) in by_path {
            paths
                .insert(path, methods)
                .expect("the paths do not contradict each other");
        }
        Self { paths, index }
    }

    /// A page that says what there is, for people who look.
    pub(super) fn index(&self) -> String {
        self.index.clone()
    }

    pub(super) fn find(&self, path: &str) -> Option<Matched<'_>> {
        let path = if path.len() > 1 {
            path.strip_suffix('/').unwrap_or(path)
        } else {
            path
        };
        let matched = self.paths.at(path).ok()?;
        let id = matched.params.get("id").map(decode);
        Some(Matched {
            methods: matched.value,
            id,
        })
    }
}

impl Matched<'_> {
    /// What the method does here; HEAD is GET without a body.
    pub(super) fn operation(&self, method: &Method) -> Option<(Operation, &'static Dialect)> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let row = self.methods.iter().find(|(known, ..)| known == method)?;
        Some((row.1, row.2))
    }

    /// The methods there are, as an `Allow` header has them.
    pub(super) fn allow(&self) -> String {
        let mut methods: Vec<&str> = self
            .methods
            .iter()
            .map(|(method, ..)| method.as_str())
            .collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.join(", ")
    }
}

fn routes() -> impl Iterator<Item = (&'static Route, &'static Dialect)> {
    let of = |dialect: &'static Dialect| dialect.routes.iter().map(move |route| (route, dialect));
    DIALECTS.iter().flat_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_own_path_and_method() {
        let router = Router::new(Offer::Everything);
        for (route, dialect) in routes() {
            let path = route
                .path
                .replace("{id}", "a%20b")
                .replace("{*id}", "a%20b");
            let matched = router.find(&path).unwrap();
            let (operation, found) = matched.operation(&route.method.parse().unwrap()).unwrap();
            assert_eq!(operation, route.operation, "{path}");
            // Two dialects that claim one path would be seen here.
            assert!(std::ptr::eq(found, dialect), "{path}");
            assert!(matched.id.is_none_or(|id| id.as_deref() == Ok("a b")));
        }
        assert!(router.find("/nothing").is_none());
        assert_eq!(
            router.find("/events").unwrap().allow(),
            "GET, POST, DELETE, HEAD, OPTIONS"
        );
        let events = router.find("/events/").unwrap();
        assert!(events.operation(&Method::PUT).is_none());
    }

    #[test]
    fn without_management_its_rows_are_as_if_they_did_not_exist() {
        let router = Router::new(Offer::WithoutManagement);
        for (route, _) in routes() {
            let path = route.path.replace("{id}", "a");
            let method = route.method.parse().unwrap();
            let found = router.find(&path).and_then(|it| it.operation(&method));
            assert_eq!(
                found.is_none(),
                route.operation.is_management(),
                "{} {path}",
                route.method
            );
        }
    }
}
