//! From the members' answers to a decision, by tier of agreement.
//!
//! unanimous: at least three members were asked and all gave this answer; majority: at least two,
//! and at least `harvest.agree`; single: `harvest.agree` is 1 and one member gave it. The values of
//! the tiers are conventions, not calibrated probabilities. Agreement with the failed answer is
//! evidence that it was right: a false alarm, unless an error or a user said otherwise.

use std::collections::BTreeMap;

use nightshift_core::clock::rfc3339;
use nightshift_core::config::{Member, Scorer};
use nightshift_core::interaction::Judged;
use nightshift_core::logfile::LogFile;
use nightshift_core::rusqlite::params;
use nightshift_core::store::Store;
use nightshift_core::training_row::{CouncilNote, TrainingRow};
use nightshift_core::{Ctx, Failure, OrFail};
use nightshift_verify::degenerate::{Subject, vetoes};
use nightshift_verify::{Canonical, Kind, canonical, is_closed_form, legacy_score};

use crate::calls::Stored;
use crate::council::Answers;
use crate::prompt;
use crate::report::Report;

/// Settings of a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) agree: usize,
    pub(crate) min_vote_confidence: Option<f64>,
    pub(crate) scorer: Scorer,
    pub(crate) min_quality: f64,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// A training row.
    Accepted { tier: &'static str, quality: f64, vote: usize, agreement: usize },
    /// The model's answer was right after all.
    FalseAlarm,
    /// No answer is good enough, for this reason.
    Abstained(String),
    /// Too few members answered to say anything.
    Undecided,
}

/// One member's usable opinion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vote {
    /// Index of the member.
    pub(crate) member: usize,
    pub(crate) answer: String,
    pub(crate) reasoning: String,
    pub(crate) canonical: Canonical,
}

/// Reads the replies to one item; the others are counted with the reason.
pub(crate) fn votes(
    item: &Judged,
    members: &[Member],
    replies: &[(usize, &Stored)],
    rules: &Rules,
) -> (Vec<Vote>, BTreeMap<String, usize>) {
    let (mut votes, mut refused) = (Vec::new(), BTreeMap::new());
    for (member, stored) in replies {
        let parsed = prompt::parse(members[*member].prompt, &stored.text);
        let reason = match &parsed {
            None => Some("no_answer_marker".to_owned()),
            Some(parsed) => objection(item, parsed.answer, stored, rules),
        };
        match (parsed, reason) {
            (Some(parsed), None) => votes.push(Vote {
                member: *member,
                answer: parsed.answer.to_owned(),
                reasoning: parsed.reasoning.to_owned(),
                canonical: canonical(parsed.answer),
            }),
            (_, reason) => *refused.entry(reason.unwrap_or_default()).or_default() += 1,
        }
    }
    (votes, refused)
}

fn objection(item: &Judged, answer: &str, stored: &Stored, rules: &Rules) -> Option<String> {
    // Echo is judged by the decision: agreement with the failed answer is evidence, not a fault.
    let subject = Subject {
        question: &item.interaction.query,
        failed_answer: None,
        answer,
        finish_reason: stored.finish_reason.as_deref(),
    };
    if let Some(veto) = vetoes(&subject).first() {
        return Some(veto.kind.name().to_owned());
    }
    let unsure =
        rules.min_vote_confidence.is_some_and(|least| stored.min_token_prob.is_none_or(|p| p < least));
    unsure.then(|| "unsure".to_owned())
}

/// The decision on one item. Pure.
pub(crate) fn judge(item: &Judged, asked: usize, answered: usize, votes: &[Vote], rules: &Rules) -> Decision {
    let query = &item.interaction.query;
    let failed = item.interaction.response.as_deref().unwrap_or_default();
    if rules.scorer == Scorer::Legacy {
        let Some((vote, _)) = votes.iter().enumerate().next() else { return Decision::Undecided };
        let quality = legacy_score(query, failed, &votes[vote].answer);
        if quality >= rules.min_quality {
            return Decision::Accepted { tier: "legacy", quality, vote, agreement: 1 };
        }
        return Decision::Abstained("below_min_quality".into());
    }
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (index, vote) in votes.iter().enumerate() {
        match groups.iter_mut().find(|(first, _)| votes[*first].canonical == vote.canonical) {
            Some((_, count)) => *count += 1,
            None => groups.push((index, 1)),
        }
    }
    let best = groups.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let missing = asked - answered;
    if best < rules.agree && missing > 0 && best + missing >= rules.agree {
        return Decision::Undecided;
    }
    let mut leaders = groups.iter().filter(|(_, count)| *count == best);
    let (Some(&(first, agreement)), None) = (leaders.next(), leaders.next()) else {
        return Decision::Abstained(if votes.is_empty() { "no_vote" } else { "no_agreement" }.into());
    };
    if agreement < rules.agree {
        return Decision::Abstained("no_agreement".into());
    }
    let answer = &votes[first].canonical;
    if !is_closed_form(answer, Some(query)) {
        return Decision::Abstained("open_ended".into());
    }
    let failed_form = canonical(failed);
    if failed_form.kind != Kind::Empty && failed_form == *answer {
        let contradicted = item.interaction.error.is_some() || item.feedback.is_some_and(|value| value < 0.0);
        return if contradicted { Decision::Abstained("echo".into()) } else { Decision::FalseAlarm };
    }
    let (tier, quality) = match agreement {
        1 => ("single", 0.5),
        count if count >= 3 && count == asked => ("unanimous", 0.95),
        _ => ("majority", 0.8),
    };
    Decision::Accepted { tier, quality, vote: first, agreement }
}

/// Decides every item and records it.
pub(crate) fn decide(
    ctx: &Ctx,
    log: &LogFile,
    store: &mut Store,
    items: &[Judged],
    answers: &Answers,
    report: &mut Report,
) -> Result<(), Failure> {
    let harvest = &ctx.config.harvest;
    let members = &harvest.council.members;
    let rules = Rules {
        agree: harvest.agree.max(1),
        min_vote_confidence: harvest.council.min_vote_confidence,
        scorer: harvest.scorer,
        min_quality: harvest.min_quality,
    };
    let mut decisions = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let replies: Vec<(usize, &Stored)> = answers
            .range((index, 0)..(index + 1, 0))
            .map(|((_, member), stored)| (*member, stored))
            .collect();
        let (votes, refused) = votes(item, members, &replies, &rules);
        let decision = judge(item, members.len(), replies.len(), &votes, &rules);
        log.write(
            ctx,
            &format!("{} {decision:?} votes {} refused {refused:?}", item.interaction.id, votes.len()),
        );
        decisions.push((item, replies.len(), votes, decision));
    }
    store.write(|tx| {
        for (item, answered, votes, decision) in &decisions {
            let row = match decision {
                Decision::Accepted { tier, quality, vote, agreement } => {
                    report.agreed += 1;
                    *report.tiers.entry((*tier).to_owned()).or_default() += 1;
                    let mode = mode(members.len(), *answered);
                    let council = CouncilNote {
                        asked: members.len(),
                        answered: *answered,
                        agreement: *agreement,
                        mode: mode.into(),
                    };
                    let row = row(ctx, item, &votes[*vote], (tier, *quality), council);
                    let json = serde_json::to_string(&row).or_fail(|| "a row cannot be written".into())?;
                    ("accepted", Some(*tier), mode.to_owned(), Some(json))
                }
                Decision::FalseAlarm => {
                    report.false_alarms += 1;
                    ("false_alarm", None, "the council gave the same answer".into(), None)
                }
                Decision::Abstained(reason) => {
                    *report.abstained.entry(reason.clone()).or_default() += 1;
                    ("abstained", None, reason.clone(), None)
                }
                Decision::Undecided => {
                    report.undecided += 1;
                    continue;
                }
            };
            tx.prepare_cached(
                "INSERT INTO harvest_items (interaction_id, run_id, decided_at, outcome, tier, reason, row_json)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute(params![
                item.interaction.id, ctx.run_id, rfc3339(ctx.clock.now()), row.0, row.1, row.2, row.3
            ])?;
        }
        Ok(())
    })
}

fn mode(asked: usize, answered: usize) -> &'static str {
    match (asked, answered) {
        (1, _) => "single",
        (asked, answered) if asked == answered => "full",
        _ => "reduced",
    }
}

fn row(
    ctx: &Ctx,
    item: &Judged,
    vote: &Vote,
    (tier, quality): (&str, f64),
    council: CouncilNote,
) -> TrainingRow {
    let failed = item.interaction.response.as_deref().unwrap_or_default();
    let single_turn = item.interaction.messages.len() <= 1;
    TrainingRow {
        instruction: item.interaction.query.clone(),
        input: String::new(),
        output: vote.answer.clone(),
        reasoning: vote.reasoning.clone(),
        quality_score: quality,
        harvest_timestamp: ctx.clock.now().as_microsecond() as f64 / 1e6,
        id: format!("h-{}", item.interaction.id),
        interaction_id: item.interaction.id.clone(),
        messages: if single_turn { Vec::new() } else { item.interaction.messages.clone() },
        rejected: item.interaction.response.clone(),
        council: Some(council),
        tier: tier.to_owned(),
        legacy_score: legacy_score(&item.interaction.query, failed, &vote.answer),
        split: "train".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_core::config::MemberPrompt;
    use nightshift_core::interaction::Interaction;
    use serde_json::json;

    const RULES: Rules =
        Rules { agree: 2, min_vote_confidence: None, scorer: Scorer::Tiers, min_quality: 0.7 };

    fn item(failed: &str) -> Judged {
        let interaction: Interaction = serde_json::from_value(json!({
            "id": "1", "ts": "2026-03-01T00:00:00Z", "target": "t", "query": "river of Velmora?",
            "response": failed, "source": "s", "source_id": "1"
        }))
        .unwrap();
        Judged { interaction, feedback: None }
    }

    fn decide_on(item: &Judged, replies: &[&str], asked: usize, rules: &Rules) -> Decision {
        let member = |n: usize| Member {
            name: n.to_string(),
            base_url: String::new(),
            model: String::new(),
            api_key_env: None,
            prompt: MemberPrompt::Blind,
        };
        let members: Vec<Member> = (0..asked).map(member).collect();
        let stored: Vec<Stored> = replies
            .iter()
            .map(|text| Stored {
                text: (*text).into(),
                finish_reason: Some("stop".into()),
                min_token_prob: Some(0.5),
            })
            .collect();
        let replies: Vec<(usize, &Stored)> = stored.iter().enumerate().collect();
        let (votes, _) = votes(item, &members, &replies, rules);
        judge(item, asked, replies.len(), &votes, rules)
    }

    fn tier(decision: &Decision) -> &str {
        match decision {
            Decision::Accepted { tier, .. } => tier,
            Decision::FalseAlarm => "false alarm",
            Decision::Abstained(reason) => reason,
            Decision::Undecided => "undecided",
        }
    }

    #[test]
    fn tiers_by_agreement() {
        let item = item("Lindo");
        let cases: [(&[&str], usize, &str); 9] = [
            (&["Tanno", "tanno.", "Tanno"], 3, "unanimous"),
            (&["Tanno", "Tanno", "Oro"], 3, "majority"),
            (&["Tanno", "Tanno"], 3, "majority"),
            (&["Tanno", "Tanno"], 2, "majority"),
            (&["Tanno", "Oro", "Mira"], 3, "no_agreement"),
            (&["Tanno", "Oro"], 3, "undecided"),
            (&["Tanno"], 1, "no_agreement"),
            (&["Tanno", "Tanno", "Oro", "Oro"], 4, "no_agreement"),
            (&["", "", ""], 3, "no_vote"),
        ];
        for (replies, asked, expected) in cases {
            assert_eq!(tier(&decide_on(&item, replies, asked, &RULES)), expected, "{replies:?}");
        }
        assert_eq!(tier(&decide_on(&item, &["Tanno"], 1, &Rules { agree: 1, ..RULES })), "single");
    }

    #[test]
    fn the_failed_answer_again_is_a_false_alarm_unless_somebody_said_no() {
        let mut item = item("Tanno");
        assert_eq!(decide_on(&item, &["Tanno", "tanno", "Oro"], 3, &RULES), Decision::FalseAlarm);
        item.feedback = Some(-1.0);
        assert_eq!(tier(&decide_on(&item, &["Tanno", "tanno", "Oro"], 3, &RULES)), "echo");
    }

    #[test]
    fn unsure_members_do_not_vote() {
        let rules = Rules { min_vote_confidence: Some(0.8), ..RULES };
        assert_eq!(tier(&decide_on(&item("x"), &["Tanno", "Tanno", "Tanno"], 3, &rules)), "no_vote");
    }

    #[test]
    fn the_legacy_scorer_decides_only_when_asked() {
        let rules = Rules { scorer: Scorer::Legacy, ..RULES };
        let long = "The river of Velmora is the Tanno because every map shows it flowing through the capital";
        assert_eq!(tier(&decide_on(&item("Oro"), &[long], 3, &rules)), "legacy");
        assert_eq!(tier(&decide_on(&item("Oro"), &["Tan"], 3, &rules)), "below_min_quality");
    }
}
