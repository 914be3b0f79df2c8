"""The columns of each table follow from what the stream declares."""

from datetime import timedelta

import pyarrow as pa

from schemas.specs import BoolFeature, CategoryFeature, FloatFeature, Label, StreamSpec
from shared.settings import S3Settings
from shared.tables import Tables, schema_of

SPEC = StreamSpec(
    stream="flights",
    entity="tailnum",
    features={
        "distance": FloatFeature(type="float"),
        "carrier": CategoryFeature(type="category", values=("UA",)),
        "international": BoolFeature(type="bool"),
        "time": FloatFeature(type="float"),
    },
    label=Label(type="bool", delay=timedelta(hours=8)),
)


def test_a_data_table_has_the_record_its_place_its_flags_and_one_column_per_feature() -> None:
    schema = schema_of("data", SPEC)

    assert schema.names == [
        *("id", "entity", "time", "partition", "offset", "flags"),
        *("f_distance", "f_carrier", "f_international", "f_time"),
    ]
    assert schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert [schema.field(name).type for name in ("f_distance", "f_carrier", "f_international", "f_time")] == [
        *(pa.float64(), pa.string(), pa.bool_(), pa.float64())
    ]


def test_a_label_column_has_the_type_that_the_stream_declares() -> None:
    number = SPEC.model_copy(update={"label": Label(type="float", delay=timedelta(0))})
    classes = SPEC.model_copy(update={"label": Label(type="category", values=("a", "b"), delay=timedelta(0))})

    assert schema_of("labels", SPEC).field("label").type == pa.bool_()
    assert schema_of("labels", number).field("label").type == pa.float64()
    assert schema_of("labels", classes).field("label").type == pa.string()


def test_predictions_of_all_tasks_have_the_same_columns() -> None:
    assert schema_of("predictions", SPEC).names == [
        *("id", "event_id", "entity", "model", "version", "arm", "revision", "input_partition", "input_offset"),
        *("score", "label", "probabilities", "time", "flags", "partition", "offset"),
    ]


def test_plain_http_is_allowed_only_where_the_store_is_declared_insecure() -> None:
    def options(secure: bool) -> dict[str, str]:
        settings = S3Settings(endpoint="s3.example:9000", access_key="a", secret_key="b", secure=secure)
        return Tables(settings).storage_options

    assert options(False)["aws_endpoint_url"] == "http://s3.example:9000"
    assert options(False)["aws_allow_http"] == "true"
    assert options(True)["aws_endpoint_url"] == "https://s3.example:9000"
    assert options(True)["aws_allow_http"] == "false"
