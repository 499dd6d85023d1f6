import torch
from conftest import TINY

from prevmatch.average import Average
from prevmatch.config import SegmenterConfig
from prevmatch.guides.guide import Versions
from prevmatch.guides.teacher import teacher
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter

CONFIG = SegmenterConfig(encoder="test_resnet", num_classes=3, decoder_channels=8, low_level_channels=4)


def test_teacher_answers_by_the_average_in_eval_mode_whatever_the_student_is():
    torch.manual_seed(0)
    student, images = Segmenter(CONFIG).train(), torch.randn(2, 3, 32, 32)
    average = Average(student, 0.9)
    guide = teacher(TINY, Versions(0, student, Frozen(student), average))
    with torch.no_grad():
        before = student.eval()(images, enlarged=False)
        torch.nn.init.normal_(student.decoder.classifier.weight)
        torch.testing.assert_close(guide.label(images), before, rtol=1e-4, atol=1e-5)
        average.follow(torch.zeros(0), torch.zeros(0))
        torch.testing.assert_close(guide.label(images), student(images, enlarged=False), rtol=1e-4, atol=1e-5)
    assert guide.reads is None
    assert not guide.label(images).requires_grad
