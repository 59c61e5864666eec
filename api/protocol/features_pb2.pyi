from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_PRESENT: _ClassVar[Status]
    STATUS_MISSING: _ClassVar[Status]
    STATUS_STALE: _ClassVar[Status]
    STATUS_UNREADABLE: _ClassVar[Status]
    STATUS_REPLAYING: _ClassVar[Status]
STATUS_UNSPECIFIED: Status
STATUS_PRESENT: Status
STATUS_MISSING: Status
STATUS_STALE: Status
STATUS_UNREADABLE: Status
STATUS_REPLAYING: Status

class LookUpRequest(_message.Message):
    __slots__ = ("service", "features", "keys", "include_metadata")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_METADATA_FIELD_NUMBER: _ClassVar[int]
    service: str
    features: _containers.RepeatedScalarFieldContainer[str]
    keys: _containers.RepeatedCompositeFieldContainer[KeyColumn]
    include_metadata: bool
    def __init__(self, service: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., keys: _Optional[_Iterable[_Union[KeyColumn, _Mapping]]] = ..., include_metadata: _Optional[bool] = ...) -> None: ...

class KeyColumn(_message.Message):
    __slots__ = ("key", "texts", "integers")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    key: str
    texts: Texts
    integers: Integers
    def __init__(self, key: _Optional[str] = ..., texts: _Optional[_Union[Texts, _Mapping]] = ..., integers: _Optional[_Union[Integers, _Mapping]] = ...) -> None: ...

class LookUpReply(_message.Message):
    __slots__ = ("columns", "answered_at_ms")
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    answered_at_ms: int
    def __init__(self, columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., answered_at_ms: _Optional[int] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("feature", "doubles", "integers", "texts", "flags", "nulls", "event_times_ms", "statuses")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    DOUBLES_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMES_MS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    feature: str
    doubles: Doubles
    integers: Integers
    texts: Texts
    flags: Flags
    nulls: _containers.RepeatedScalarFieldContainer[int]
    event_times_ms: _containers.RepeatedScalarFieldContainer[int]
    statuses: _containers.RepeatedScalarFieldContainer[Status]
    def __init__(self, feature: _Optional[str] = ..., doubles: _Optional[_Union[Doubles, _Mapping]] = ..., integers: _Optional[_Union[Integers, _Mapping]] = ..., texts: _Optional[_Union[Texts, _Mapping]] = ..., flags: _Optional[_Union[Flags, _Mapping]] = ..., nulls: _Optional[_Iterable[int]] = ..., event_times_ms: _Optional[_Iterable[int]] = ..., statuses: _Optional[_Iterable[_Union[Status, str]]] = ...) -> None: ...

class Doubles(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Integers(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Flags(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, values: _Optional[_Iterable[bool]] = ...) -> None: ...
