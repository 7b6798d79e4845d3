//! How the process is scheduled: policy, I/O priority, execution domain.

use conex_spec::runtime::{IoPriorityClass, PersonalityDomain, Process, SchedulerPolicy, Spec};
use conex_sys::child::{Plan, SchedulerAttributes, Step};

use super::LaunchError;

pub(super) fn push(process: &Process, plan: &mut Plan) -> Result<(), LaunchError> {
    if let Some(scheduler) = &process.scheduler {
        let mut flags = 0;
        for flag in &scheduler.flags {
            flags |= flag_bit(flag).ok_or_else(|| {
                LaunchError::Unsupported(format!("scheduler flag {flag} is not known"))
            })?;
        }
        let priority = u32::try_from(scheduler.priority).map_err(|_| {
            LaunchError::Unsupported(format!(
                "scheduler priority {} is negative",
                scheduler.priority
            ))
        })?;
        plan.push(Step::Scheduler(SchedulerAttributes {
            policy: policy(scheduler.policy),
            flags,
            nice: scheduler.nice,
            priority,
            runtime_ns: scheduler.runtime_ns,
            deadline_ns: scheduler.deadline_ns,
            period_ns: scheduler.period_ns,
            ..SchedulerAttributes::default()
        }));
    }
    if let Some(io) = process.io_priority {
        // linux/ioprio.h: the class above 13 bits of level.
        let class = match io.class {
            IoPriorityClass::Realtime => 1,
            IoPriorityClass::BestEffort => 2,
            IoPriorityClass::Idle => 3,
        };
        if !(0..8).contains(&io.priority) {
            return Err(LaunchError::Unsupported(format!(
                "I/O priority {} is not between 0 and 7",
                io.priority
            )));
        }
        plan.push(Step::IoPriority(class << 13 | io.priority));
    }
    Ok(())
}

/// The execution domain, which belongs to the container, not to one process.
pub(super) fn push_personality(spec: &Spec, plan: &mut Plan) -> Result<(), LaunchError> {
    let Some(personality) = spec.linux.as_ref().and_then(|l| l.personality.as_ref()) else {
        return Ok(());
    };
    if let Some(flag) = personality.flags.first() {
        return Err(LaunchError::Unsupported(format!(
            "personality flag {flag} is not known"
        )));
    }
    plan.push(Step::Personality(match personality.domain {
        // PER_LINUX, PER_LINUX32: linux/personality.h
        PersonalityDomain::Linux => 0x0000,
        PersonalityDomain::Linux32 => 0x0008,
    }));
    Ok(())
}

fn policy(policy: SchedulerPolicy) -> u32 {
    match policy {
        SchedulerPolicy::Other => 0,
        SchedulerPolicy::Fifo => 1,
        SchedulerPolicy::RoundRobin => 2,
        SchedulerPolicy::Batch => 3,
        SchedulerPolicy::Isochronous => 4,
        SchedulerPolicy::Idle => 5,
        SchedulerPolicy::Deadline => 6,
    }
}

/// linux/sched.h
fn flag_bit(name: &str) -> Option<u64> {
    Some(match name {
        "SCHED_FLAG_RESET_ON_FORK" => 0x01,
        "SCHED_FLAG_RECLAIM" => 0x02,
        "SCHED_FLAG_DL_OVERRUN" => 0x04,
        "SCHED_FLAG_KEEP_POLICY" => 0x08,
        "SCHED_FLAG_KEEP_PARAMS" => 0x10,
        "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
        "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_level_of_io_priority_stays_below_its_class() {
        let io = |priority| Process {
            io_priority: Some(conex_spec::runtime::IoPriority {
                class: IoPriorityClass::BestEffort,
                priority,
            }),
            ..Process::default()
        };
        let mut plan = Plan::new();
        push(&io(7), &mut plan).unwrap();
        assert!(matches!(plan.steps(), [Step::IoPriority(0x4007)]));
        assert!(push(&io(8), &mut plan).is_err());
    }
}
