//! The vocabulary of policies: schema, actions, and the requests that are put to Cedar.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};

use crate::facts::Fact;
use crate::request::Subject;

/// The schema, as tenants may read it.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

static PARSED: LazyLock<Option<Schema>> =
    LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).ok().map(|(schema, _)| schema));
static RUN: LazyLock<EntityUid> = LazyLock::new(|| uid("Action", "Run"));
static AUTO_APPROVE: LazyLock<EntityUid> = LazyLock::new(|| uid("Action", "AutoApprove"));

pub(super) fn schema() -> Option<&'static Schema> {
    PARSED.as_ref()
}

/// May this run at all?
pub(super) fn run() -> &'static EntityUid {
    &RUN
}

/// May this run without anybody being asked?
pub(super) fn auto_approve() -> &'static EntityUid {
    &AUTO_APPROVE
}

fn uid(kind: &'static str, id: &str) -> EntityUid {
    static ROOT: LazyLock<HashMap<&str, EntityTypeName>> = LazyLock::new(|| {
        let names = ["Action", "Token", "Session"];
        names.into_iter().filter_map(|name| Some((name, name.parse().ok()?))).collect()
    });
    EntityUid::from_type_name_and_id(ROOT[kind].clone(), EntityId::new(id))
}

/// Principal and resource of one decision.
pub(super) struct Scene {
    principal: EntityUid,
    resource: EntityUid,
    pub(super) entities: Entities,
}

/// Cedar refused a request: a bug here, and a reason to ask.
#[derive(Debug, thiserror::Error)]
#[error("the policy could not be evaluated: {0}")]
pub(super) struct NotEvaluated(String);

impl Scene {
    pub(super) fn new(subject: &Subject<'_>) -> Result<Self, NotEvaluated> {
        let principal = uid("Token", subject.token);
        let resource = uid("Session", subject.session);
        let token = entity(&principal, &[("role", subject.role), ("name", subject.token)])?;
        let session = entity(
            &resource,
            &[
                ("tenant", subject.tenant),
                ("name", subject.session),
                ("environment", subject.environment),
            ],
        )?;
        let entities = Entities::from_entities([token, session], None)
            .map_err(|error| NotEvaluated(error.to_string()))?;
        Ok(Self { principal, resource, entities })
    }

    pub(super) fn request(&self, action: &EntityUid, fact: &Fact) -> Result<Request, NotEvaluated> {
        let context =
            Context::from_pairs(context(fact)).map_err(|e| NotEvaluated(e.to_string()))?;
        let (principal, resource) = (self.principal.clone(), self.resource.clone());
        Request::new(principal, action.clone(), resource, context, None)
            .map_err(|error| NotEvaluated(error.to_string()))
    }
}

fn entity(id: &EntityUid, attributes: &[(&str, &str)]) -> Result<Entity, NotEvaluated> {
    let attributes =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    Entity::new(id.clone(), attributes, HashSet::new())
        .map_err(|error| NotEvaluated(error.to_string()))
}

fn context(fact: &Fact) -> Vec<(String, RestrictedExpression)> {
    let effects = fact.effects.iter().map(|effect| text(effect.as_str()));
    [
        ("program", text(&fact.program)),
        ("subcommand", text(&fact.subcommand)),
        ("line", text(&fact.line)),
        ("flags", set(&fact.flags)),
        ("operands", set(&fact.operands)),
        ("hosts", set(&fact.hosts)),
        ("effects", RestrictedExpression::new_set(effects)),
        ("understood", RestrictedExpression::new_bool(fact.understood)),
        ("cwd", text(&fact.cwd)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn set(values: &[String]) -> RestrictedExpression {
    RestrictedExpression::new_set(values.iter().map(|value| text(value)))
}
