"""Registry: the record of the platform, and its HTTP API.

Hears dataset.committed, entity.erased, training.requested, window.measured, rollout.measured, alert.raised,
alert.resolved, data.quarantined, training.progressed, model.trained, training.failed, model.validated, model.rejected,
rollout.changed, rollout.switched, rollout.ended, predictions.withdrawn, corrections.published, load.failed,
scoring.measured, and people over HTTP.
Decides whether a declaration may be applied, which number a version gets, its stage, and who must approve it.
Says stream.applied, model.applied, model.registered, approval.requested, approval.given, model.approved,
model.refused, model.retired, model.commented, erasure.ordered, entity.forgotten, rollout.ordered, training.ordered, and
with each the new head of the audit log: audit.advanced.
"""
