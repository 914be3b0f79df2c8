"""What every process answers, and that it answers nothing else."""

from starlette.routing import Route

from shared.health import OPEN_ROUTES, Health, add_health, bare_app


def test_a_process_without_routes_of_its_own_has_the_open_ones_only() -> None:
    app = add_health(bare_app(), Health())

    assert {route.path for route in app.routes if isinstance(route, Route)} == set(OPEN_ROUTES)
