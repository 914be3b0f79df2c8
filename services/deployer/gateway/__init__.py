"""Gateway: the Open Inference Protocol v2 over HTTP, `python -m services.deployer.gateway`.

A request is an event like any other: it is published to the stream's topic, a scorer answers it by the rollout, and the
caller gets the prediction that stands committed. So it is routed, monitored and trained on like the rest, and a caller
or a gateway that dies loses nothing. Only `/versions/<v>/infer` is answered here, without any effect.
"""
