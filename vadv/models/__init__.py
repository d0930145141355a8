"""The method's modules (section 4): plain `nn.Module`s on tensors that know no files, ranks or datasets."""

from vadv.models.cross_frame import CrossFrameTransformer
from vadv.models.multi_frame import MultiFrameTransformer
from vadv.models.prompting import VideoSpecificPrompting
from vadv.models.student import Student, build_student
from vadv.models.teacher import Teacher, build_teacher
from vadv.models.videoadviser import VideoAdviser

__all__ = [
    "CrossFrameTransformer",
    "MultiFrameTransformer",
    "Student",
    "Teacher",
    "VideoAdviser",
    "VideoSpecificPrompting",
    "build_student",
    "build_teacher",
]
