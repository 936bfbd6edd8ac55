from ctnet.data.video import read_frames
