"""What Chinese needs when a word is exchanged: whether a form of address follows a surname."""

from __future__ import annotations

# The hundred or so commonest surnames, which cover most bearers; no list is complete.
_SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟"
    "姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤"
)


def title(text: str, start: int, end: int) -> tuple[str, bool]:
    """Return the role of 女士 and the like: a title after a surname (王女士), else a noun."""
    del end
    return ("title" if start and text[start - 1] in _SURNAMES else "noun"), False
