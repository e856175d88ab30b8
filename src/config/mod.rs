//! The configuration: from what the user wrote to the domain's own types, or to a list of problems.
