//! The one internal language. Every input (plane, hub, local, replayed) becomes a [`Command`];
//! everything that happens becomes an [`Event`], a [`Notice`] or a [`Reply`].

mod agent;
mod answer;
mod ask;
mod capabilities;
mod command;
mod event;
mod gateway;
mod git;
mod graph;
mod manifest;
mod pipeline;
mod request;
mod tree;

pub use agent::{
    AgentChange, AgentPatch, AgentProfile, AgentStatus, Can, Choosing, FileChange, Health,
    HealthReason, Heartbeat, Hello, Notice, ProviderReport, Trouble,
};
pub use answer::match_answer;
pub use ask::{Action, Answer, Ask, AskEnd, AskKind, Choice, ChoiceKind};
pub use capabilities::{
    Capabilities, CapabilityQuery, Discovery, Skill, SkillScope, SkillSource, TaskMode,
};
pub use command::{
    Command, CommandBody, FollowUp, Origin, Place, ReplyToken, RunKind, Source, StartRun, Tuning,
    When,
};
pub use event::{
    Actor, Event, EventBody, Fault, FileDiff, Fix, Location, Observed, Outcome, PlanItem,
    PlanStatus, Rejection, Retry, RunEvent, ToolKind, ToolState, ToolStatus, Usage,
};
pub use gateway::{CallEnd, CallPurpose, GatewayReply, GatewayRequest, ToolCall};
pub use git::{GitFault, GitFile, GitOperation, GitReply, GitRequest, GitStatus, GitStep};
pub use graph::{GraphPhase, PlanGraph, PlanReply};
pub use manifest::ModelManifest;
pub use pipeline::{PipelineReply, PipelineRequest, PipelineTask};
pub use request::{FileEntry, FileRoot, FileScope, Listing, ReadOutcome, Reply, Request};
pub use tree::{NewFile, TreeAct, TreeChange, TreeChanged};
