//! The generated messages and the generated service.

pub(crate) use generated::*;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::wildcard_imports,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    reason = "generated code is not held to the house rules"
)]
mod generated {
    tonic::include_proto!("plumeria.lockservice.v1");
}
